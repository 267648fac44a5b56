"""To whom and with what we had written: return paths and the headers of GreenArrow's messages.

Return path: ``LOCALPART-LISTID-SENDID-RECIPIENT@BOUNCEDOMAIN``, the recipient in VERP form
(``user=example.com``). Postfix's own form is ``LOCALPART+RECIPIENT@…``. Neither is signed: good for telling which
message it was, never for trust.
"""

import re
from dataclasses import dataclass

from mailvane.bounces.addresses import address_in, same_address
from mailvane.bounces.facts import Attribution
from mailvane.bounces.headers import Headers

# LOCALPART holds neither "=" (so SRS and BATV, which begin with SRS0= and prvs=, are no VERP) nor "-".
_VERP = re.compile(r"([^-=+@\s]+)-([A-Za-z0-9_+]{1,20})-([^-=@\s]{1,64})-([^\s@]+=[^\s@=]+)")
_PLUS = re.compile(r"([^=+@\s]+)\+([^\s@]+=[^\s@=]+)")
_JOB_BEFORE = re.compile(r"[^.=]+\.\d+\.(.+)")

# Postfix, Sendmail and Exim end the trace with it: "by mx.example.net (Postfix) with ESMTP id 4jYdNc1jJszJDb0".
_RECEIVED_AS = re.compile(r"\sid\s+<?([^\s<>;()]+)")
_QUEUE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{3,63}")

_DELIVERED_TO = ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "to")


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """What a return path of ours says."""

    candidates: tuple[str, ...]
    """Recipients that it can mean, likeliest first: more than one if something may stand before the recipient."""
    listid: str = ""
    sendid: str = ""

    @property
    def sure(self) -> bool:
        """Does it name one recipient and nothing else?"""
        return len(self.candidates) == 1

    def recipient(self, reported: tuple[str, ...] = ()) -> str:
        """The recipient: of several candidates the one that is among *reported*, else the likeliest."""
        for candidate in self.candidates:
            if any(same_address(candidate, other) for other in reported):
                return candidate
        return self.candidates[0]


def read_return_path(address: str) -> ReturnPath | None:
    """What *address* says if it is a return path in VERP form, else None."""
    local, at, domain = address.strip().strip("<>").rpartition("@")
    if not at or not domain or len(address) > 1_024:
        return None
    match = _VERP.fullmatch(local)
    if match:
        recipient = _unverp(match[4])
        return ReturnPath((recipient,), match[2], match[3]) if recipient else None
    match = _PLUS.fullmatch(local)
    if match is None:
        return None
    extension = match[2]
    likely = [_unverp(extension)]
    before = _JOB_BEFORE.fullmatch(extension)
    if before:
        # "send1.123.user=example.com": a job and a number before the recipient, a common habit of senders.
        likely.insert(0, _unverp(before[1]))
    candidates = tuple(candidate for candidate in likely if candidate)
    return ReturnPath(candidates) if candidates else None


def _unverp(text: str) -> str | None:
    user, _, domain = text.rpartition("=")
    return address_in(f"{user}@{domain}") if user and "." in domain else None


def find_return_path(
    delivered_to: str | None, own: Headers, returned: Headers, sender: str | None
) -> ReturnPath | None:
    """The return path by which the mail came back.

    Looked for in what the mail server says (*delivered_to*), in the mail's *own* headers, in what the report says of
    the message's envelope *sender*, and in the *returned* message's Return-Path.
    """
    places: list[str] = [delivered_to or ""]
    for name in _DELIVERED_TO:
        places.extend(own.get_all(name))
    places += [sender or "", returned.get("return-path")]
    for place in places:
        address = address_in(place)
        found = read_return_path(address) if address else None
        if found:
            return found
    return None


def read_attribution(returned: Headers, return_path: ReturnPath | None, queue_id: str = "") -> Attribution:
    """List, send, class and tracking id: from the *returned* message's headers, then from the return path."""

    def field(name: str) -> str:
        value = returned.get(name)
        return "".join(letter for letter in value[:256] if letter.isprintable() and letter != "\ufffd").strip()

    return Attribution(
        listid=(field("x-greenarrow-listid") or (return_path.listid if return_path else "")).lower(),
        sendid=(field("x-greenarrow-sendid") or (return_path.sendid if return_path else "")).lower(),
        mail_class=field("x-greenarrow-mailclass"),
        click_tracking_id=field("x-greenarrow-click-tracking-id"),
        queue_id=queue_id,
    )


def find_queue_id(reported: str, returned: Headers) -> str:
    """Under which name the server that reports had the *returned* message in its queue; empty if nothing says so.

    *reported* is what the report says itself; else the message's topmost Received does, which that server wrote.
    """
    received = _RECEIVED_AS.search(returned.get("received")[:1_000])
    for place in (reported, received[1] if received else ""):
        if _QUEUE_ID.fullmatch(place):
            return place
    return ""
