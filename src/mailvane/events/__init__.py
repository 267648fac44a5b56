"""What an event is: its types and fields, its forms on the wire, and the door where bad bytes stop."""

from mailvane.events.catalogue import Event

__all__ = ["Event"]
