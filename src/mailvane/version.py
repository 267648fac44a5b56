"""The version of this mailvane."""

__version__ = "0.1.0"
