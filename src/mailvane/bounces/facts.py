"""What a mail says, as plain values: the language between the detectors and whoever makes events of it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bounce", "complaint", "unsubscribe", "auto_reply", "none"]
"""``none`` is everything that means nothing to us: ordinary mail, delay and success reports, DMARC failure reports."""

BounceType = Literal["h", "s", "o"]
"""Hard (send nothing more), soft (may work later), other (refused for what we sent or for how we sent it)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure is, and why we think so."""

    bounce_type: BounceType
    bounce_code: int
    rule: str
    """Name of the rule that decided: one of ``rules.toml``, a status, a reply code, or ``undetermined``."""
    sentence: str
    """What the rule saw."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """To which message of ours the mail answers. Empty strings where nothing was found. Unsigned: never for trust."""

    listid: str = ""
    sendid: str = ""
    mail_class: str = ""
    click_tracking_id: str = ""
    queue_id: str = ""
    """The message in the queue of the mail server that reports: what stands in that server's log."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One address that the mail is about."""

    address: str
    found_in: str
    """Where the address was found: ``return path``, ``Original-Recipient``, ``flufl.bounce`` …"""
    verdict: Verdict | None = None
    """None for complaints and unsubscriptions."""
    text: str = ""
    """The remote server's words."""
    attribution: Attribution | None = None
    """Where it is this recipient's own, as in a mail with several reports; else the mail's holds."""


@dataclass(frozen=True, slots=True)
class MailFacts:
    """Everything that a mail says."""

    kind: Kind
    form: str
    """Which detector understood it: ``rfc3464``, ``rfc5965``, ``hotmail``, ``flufl.bounce`` …; empty for none."""
    reason: str
    """One sentence for people: what it is, or why nothing comes of it."""
    recipients: tuple[Recipient, ...] = ()
    attribution: Attribution = Attribution()
