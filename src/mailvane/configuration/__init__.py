"""Reads what people write (`event_processor.json`, `mailvane.conf`) and makes values of it: a Plan, Settings.

Every mistake is told with its place, all of a file in one go. What is secret is never shown.
"""
