"""What a mail that came back means: bytes in, facts out.

This part stands alone. It knows nothing of events, queues or files, does no I/O but reading a stream it is given,
and raises nothing, whatever the bytes are. ``read_mail`` is the way in; ``read.py`` has the order of the detectors,
``rules.toml`` the words of mail servers and what they mean.
"""

from mailvane.bounces.facts import Attribution, BounceType, Kind, MailFacts, Recipient, Verdict
from mailvane.bounces.mime import BYTES_AT_MOST, read_head
from mailvane.bounces.read import read_mail

__all__ = [
    "BYTES_AT_MOST",
    "Attribution",
    "BounceType",
    "Kind",
    "MailFacts",
    "Recipient",
    "Verdict",
    "read_head",
    "read_mail",
]
