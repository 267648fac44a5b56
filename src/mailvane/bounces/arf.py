"""Feedback reports: RFC 5965 (ARF), and Hotmail's older form, which is none.

Not every report is a complaint: DMARC failure reports (``auth-failure``, RFC 6591) come in the same envelope, and
``not-spam`` (RFC 6430) takes one back.
"""

from dataclasses import dataclass

from mailvane.bounces.addresses import address_in, addresses_in_list
from mailvane.bounces.attribution import ReturnPath, read_return_path
from mailvane.bounces.dsn import field_blocks
from mailvane.bounces.headers import Headers, parse_headers
from mailvane.bounces.mime import Mail, Part

REPORTS_AT_MOST = 100

NO_COMPLAINT = frozenset({"auth-failure", "auth-failure-report", "not-spam", "dkim", "dmarc", "dmarc-failure"})


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """One report: its type and the message that it is about."""

    feedback_type: str
    recipients: tuple[str, ...]
    """Whom the message had been sent to, as far as the report tells; often it hides that."""
    found_in: str
    returned: Headers
    return_path: ReturnPath | None


def read_arf(mail: Mail) -> tuple[FeedbackReport, ...]:
    """The feedback reports in *mail*, in their order; several may stand in one mail. Empty if there is none."""
    reports: list[FeedbackReport] = []
    for position, part in enumerate(mail.parts):
        if part.media_type != "message/feedback-report" or (part.attached and not _in_digest(mail, part)):
            continue
        if len(reports) >= REPORTS_AT_MOST:
            break
        returned = _message_after(mail, position)
        # A blank line inside the fields happens; all blocks of the part belong to the one report.
        fields = Headers(tuple(field for block in field_blocks(part.content()) for field in block.fields))
        reports.append(_report(fields, returned))
    return tuple(reports)


def read_hotmail(mail: Mail) -> FeedbackReport | None:
    """Hotmail's complaint of old: ``staff@hotmail.com``, the message attached with X-HmXmrOriginalRecipient."""
    for part in mail.own_parts():
        child = mail.child_of(part) if part.media_type == "message/rfc822" else None
        if child is not None and "x-hmxmroriginalrecipient" in child.headers:
            return _report(Headers((("feedback-type", "abuse"),)), child.headers)
    return None


def _in_digest(mail: Mail, part: Part) -> bool:
    """Does *part* lie in a collection of reports, rather than in a message that is itself returned or reported?"""
    ancestor = part.parent
    messages = 0
    while ancestor >= 0:
        node = mail.parts[ancestor]
        messages += node.media_type == "message/rfc822"
        ancestor = node.parent
    return messages == 1 and mail.parts[0].media_type in ("multipart/digest", "multipart/mixed")


def _message_after(mail: Mail, position: int) -> Headers:
    """The headers of the message that follows the report at *position* among its siblings."""
    parent = mail.parts[position].parent
    for part in mail.parts[position + 1 :]:
        if part.parent != parent:
            continue
        if part.media_type == "message/feedback-report":
            break
        if part.media_type == "message/rfc822":
            child = mail.child_of(part)
            return child.headers if child else Headers()
        if part.media_type in ("text/rfc822-headers", "message/rfc822-headers"):
            return parse_headers(part.content().lstrip(b"\n"))
    return Headers()


def _report(fields: Headers, returned: Headers) -> FeedbackReport:
    return_path: ReturnPath | None = None
    for place in (*fields.get_all("original-mail-from"), returned.get("return-path")):
        address = address_in(place)
        return_path = return_path or (read_return_path(address) if address else None)
    recipients, found_in = _recipients(fields, returned)
    return FeedbackReport(fields.get("feedback-type").strip().lower(), recipients, found_in, returned, return_path)


def _recipients(fields: Headers, returned: Headers) -> tuple[tuple[str, ...], str]:
    for name in ("original-rcpt-to", "removal-recipient"):
        addresses = tuple(dict.fromkeys(address for value in fields.get_all(name) if (address := address_in(value))))
        if addresses:
            return addresses, name.title()
    for name in ("x-hmxmroriginalrecipient", "x-original-to", "delivered-to", "to"):
        addresses = addresses_in_list(returned.get(name))
        if len(addresses) == 1:
            return addresses, f"{name.title()} of the reported message"
    return (), ""
