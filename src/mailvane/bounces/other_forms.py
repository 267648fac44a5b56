"""Bounces that are no DSN: Exim's and qmail's letters, and the many that flufl.bounce knows.

flufl.bounce only finds the addresses here; what the failure is, ``classify`` says.
"""

import logging
import re
from dataclasses import dataclass
from email.message import Message

from mailvane.bounces.addresses import address_in, addresses_in_list
from mailvane.bounces.cpu_deadline import within
from mailvane.bounces.headers import Headers, decoded_words
from mailvane.bounces.mime import TEXT_AT_MOST, Mail, Part

_SENDERS = frozenset({"mailer-daemon", "mail-daemon", "mailerdaemon", "postmaster", "mdaemon", "mail-deamon", "bounce"})
_SUBJECTS = (
    "undeliver",
    "delivery status",
    "delivery fail",
    "delivery error",
    "delivery notification",
    "delivery problem",
    "delivery has failed",
    "delivery report",
    "mail delivery",
    "returned mail",
    "returned to sender",
    "returning message",
    "failure notice",
    "failure notification",
    "failed mail",
    "mail failure",
    "message failure",
    "could not be delivered",
    "not delivered",
    "non-delivery",
    "nondelivery",
    "mail system error",
    "unzustellbar",
    "unzustellbare",
    "non remis",
    "não entregue",
    "mancata consegna",
)

BY_SUBJECT = "Subject: "
"""How ``looks_returned`` begins if only the subject speaks for a bounce: people write such subjects too."""

BYTES_AT_MOST = 262_144
"""Bytes that flufl.bounce is given at most; some of its detectors read every line with many patterns."""

LINE_AT_MOST = 998
"""Bytes of a line that it is given, as many as a line may have (RFC 5322, 2.1.1): many of its patterns take time by the
square of a line's length."""

SECONDS_AT_MOST = 1.0
"""Seconds of processor time that it may take; real letters take a hundredth."""

_LONG_LINE = re.compile(rb"(.{%d}).+" % LINE_AT_MOST)
# One of its patterns takes time by the cube of their number.
_NEVER_CLOSED = re.compile(rb"<(?![^<>\n]*>)")


def looks_returned(headers: Headers) -> str | None:
    """What in *headers* says that a mail system, not a person, sent this about a mail of ours; None if nothing."""
    if "x-failed-recipients" in headers:
        return "X-Failed-Recipients"
    for name in ("from", "sender", "return-path"):
        value = headers.get(name)
        address = address_in(value) or value
        local = address.strip("<> ").partition("@")[0].lower()
        if local in _SENDERS or local.startswith(("mailer-daemon", "postmaster")):
            return f"{name.title()}: {value[:80]}"
    if headers.get("return-path").strip() == "<>":
        return "null return path"
    subject = decoded_words(headers.get("subject")).strip().lower()
    if not subject.startswith(("re:", "aw:", "fw:", "fwd:")) and any(sign in subject[:200] for sign in _SUBJECTS):
        return f"{BY_SUBJECT}{subject[:80]}"
    return None


@dataclass(frozen=True, slots=True)
class Named:
    """The addresses that a letter names, and which detector found them."""

    addresses: tuple[str, ...]
    found_in: str
    only_delayed: bool = False
    """Does the letter say that it is still being tried?"""


def find_failed_addresses(mail: Mail) -> Named:
    """The addresses that *mail* says failed; without any if no detector knows the letter."""
    listed = addresses_in_list(",".join(mail.headers.get_all("x-failed-recipients")))
    if listed:
        return Named(listed, "X-Failed-Recipients")
    return _by_flufl(mail)


def only_address_named(mail: Mail, words: str, returned: Headers) -> str | None:
    """The one address that *words* name besides those of the sender; None if there are none or several."""
    ours: set[str] = set()
    for headers in (mail.headers, returned):
        for name in ("return-path", "from", "sender", "reply-to", "message-id", "x-original-to", "delivered-to"):
            ours.update(address.casefold() for value in headers.get_all(name) for address in addresses_in_list(value))
    ours.update(address.casefold() for address in addresses_in_list(mail.headers.get("to")))
    named: dict[str, str] = {}
    for line in words.split("\n")[:2_000]:
        if "message-id" in line.lower() or "from:" in line.lower():
            continue
        for word in line[:2_000].split():
            address = address_in(word.strip("<>()[]'\",;:.")) if "@" in word else None
            if address and address.casefold() not in ours:
                named.setdefault(address.casefold(), address)
    return next(iter(named.values())) if len(named) == 1 else None


def _by_flufl(mail: Mail) -> Named:
    # Imported here: it is slow to import and most mails never need it.
    from flufl.bounce import all_failures  # pyright: ignore[reportUnknownVariableType]

    # A detector that fails logs its traceback before it raises; nobody is to see that.
    log = logging.getLogger("flufl.bounce")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
        log.propagate = False
    try:
        temporary, permanent = within(SECONDS_AT_MOST, lambda: all_failures(_as_message(mail)))
    except Exception:  # foreign code over hostile bytes: whatever it raises, or takes too long for, it found nothing
        return Named((), "flufl.bounce")
    found = {address for raw in permanent or temporary if (address := address_in(raw.decode("ascii", "replace")))}
    return Named(tuple(sorted(found)), "flufl.bounce", only_delayed=bool(found) and not permanent)


def _as_message(mail: Mail) -> Message:
    """*mail* as the standard library's Message, built from our parts: its own parser is not safe to call."""
    room = BYTES_AT_MOST
    messages: list[Message] = []
    for part in mail.parts:
        message = Message()
        for name, value in part.headers.fields[:200]:
            if "\n" not in value and len(value) < 4_096:
                message[name] = value
        if part.container:
            message.set_payload([])
        else:
            taken = min(TEXT_AT_MOST, room)
            room -= min(len(part.body), taken)
            _set_text(message, part, taken)
        messages.append(message)
        if part.parent >= 0:
            messages[part.parent].attach(message)
    return messages[0]


def _set_text(message: Message, part: Part, length: int) -> None:
    """The part's text, decoded; the encoding's header goes, so that nobody decodes it again."""
    del message["content-transfer-encoding"]
    content = _NEVER_CLOSED.sub(b" ", _LONG_LINE.sub(rb"\1", part.content()[:length]))
    message.set_payload(content.decode("ascii", "surrogateescape"))
