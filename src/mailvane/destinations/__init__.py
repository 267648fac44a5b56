"""Where events go: each module knows one kind of destination and says what became of what it was given.

A destination never decides when to try again; that is the processor's.
"""
