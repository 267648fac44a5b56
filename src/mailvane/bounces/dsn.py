"""Delivery status notifications: RFC 3464, and RFC 6533 for addresses in UTF-8.

``email.parser`` splits ``message/delivery-status`` but not ``message/global-delivery-status``, so the field blocks
are split here.
"""

import re
from dataclasses import dataclass
from typing import Literal

from mailvane.bounces.addresses import LIST_AT_MOST, typed_address
from mailvane.bounces.headers import Headers, parse_headers
from mailvane.bounces.mime import Mail

RECIPIENTS_AT_MOST = LIST_AT_MOST
"""Recipients of one report that are looked at."""

Action = Literal["failed", "delayed", "delivered", "unknown"]

_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ONCE_A_BLOCK = frozenset({"original-recipient", "final-recipient", "action", "status"})
_BLANK_LINES = re.compile(rb"\n[ \t]*\n")
_TYPE = re.compile(r"\A\s*[A-Za-z0-9][A-Za-z0-9-]{0,30}\s*;\s*")


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """The fields of one recipient (RFC 3464, 2.3)."""

    final_recipient: str | None
    original_recipient: str | None
    action: Action
    status: str
    diagnostic_code: str
    """Without its type; empty if the report has none."""


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A DSN: its recipients, and who the reporting server says the message was from."""

    recipients: tuple[ReportedRecipient, ...]
    sender: str | None
    """``X-Postfix-Sender``: the envelope sender of the returned message, our return path."""
    queue_id: str
    """``X-Postfix-Queue-ID``: the returned message in the reporting server's queue; empty if it does not say."""
    cut: bool
    """Were there more recipients than are looked at?"""


def read_dsn(mail: Mail) -> DeliveryReport | None:
    """The delivery report in *mail*, or None. A report inside a returned message is not ours and is not looked at."""
    contents = [part.content() for part in mail.own_parts() if part.media_type in _STATUS_PARTS]
    return _report(contents) if contents else None


def read_dsn_in_text(mail: Mail) -> DeliveryReport | None:
    """A report whose fields stand in a text part: from servers that know no better, or where a boundary is broken.

    To be asked only of mails that something else marks as returned.
    """
    texts = [part for part in mail.own_parts() if not part.container]
    contents = [content for part in texts if b"final-recipient:" in (content := part.content()).lower()]
    report = _report(contents)
    return report if any(recipient.final_recipient for recipient in report.recipients) else None


def _report(contents: list[bytes]) -> DeliveryReport:
    recipients: list[ReportedRecipient] = []
    sender: str | None = None
    queue_id = ""
    cut = False
    for content in contents:
        for fields in field_blocks(content):
            sender = sender or typed_address(fields.get("x-postfix-sender"))
            queue_id = queue_id or fields.get("x-postfix-queue-id")
            recipient = _recipient(fields)
            if recipient is None:
                continue
            if len(recipients) >= RECIPIENTS_AT_MOST:
                cut = True
                break
            recipients.append(recipient)
    return DeliveryReport(tuple(recipients), sender, queue_id, cut)


def field_blocks(content: bytes) -> list[Headers]:
    """The blocks of fields, parted by blank lines, or by a field repeated that may stand only once in a block."""
    blocks: list[Headers] = []
    for raw in _BLANK_LINES.split(content.replace(b"\r\n", b"\n"), 2 * RECIPIENTS_AT_MOST):
        fields: list[tuple[str, str]] = []
        names: set[str] = set()
        for name, value in parse_headers(raw.strip(b"\n"), join_stray_lines=True).fields:
            if name in names and name in _ONCE_A_BLOCK:
                blocks.append(Headers(tuple(fields)))
                fields, names = [], set()
            fields.append((name, value))
            names.add(name)
        if fields:
            blocks.append(Headers(tuple(fields)))
    return blocks


def _recipient(fields: Headers) -> ReportedRecipient | None:
    """The recipient that *fields* tell of; None for the block about the message."""
    if not any(name in fields for name in ("final-recipient", "original-recipient", "action", "status")):
        return None
    status = fields.get("status").partition(" ")[0]
    return ReportedRecipient(
        final_recipient=typed_address(fields.get("final-recipient")),
        original_recipient=typed_address(fields.get("original-recipient")),
        action=_action(fields.get("action"), status),
        status=status,
        diagnostic_code=_TYPE.sub("", fields.get("diagnostic-code"), count=1),
    )


def _action(value: str, status: str) -> Action:
    """RFC 3464, 2.3.3. OpenSMTPD says ``error``, SendGrid ``expired``; some append a comment, some leave it out."""
    word = value.strip().lower()
    if word.startswith(("fail", "error", "expired")):
        return "failed"
    if word.startswith("delayed"):
        return "delayed"
    if word.startswith(("delivered", "relayed", "expanded")):
        return "delivered"
    return "failed" if status.startswith("5") else "delivered" if status.startswith("2") else "unknown"
