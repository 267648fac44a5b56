"""Mail to the ``mailto:`` address of a List-Unsubscribe header (RFC 2369, 3.2).

Recognised narrowly: a wrong one takes a reader off a list. Either the mail was delivered to an address whose first
word is an unsubscribe word, or its subject is nothing but one (with an id behind it, as senders put it there).
"""

import re
from dataclasses import dataclass

from mailvane.bounces.addresses import address_in
from mailvane.bounces.attribution import ReturnPath, read_return_path
from mailvane.bounces.headers import Headers, decoded_words

_WORDS = frozenset({"unsubscribe", "unsub", "list-unsubscribe", "leave", "remove", "optout", "opt-out"})
_BEFORE_AN_ID = tuple(word + mark for word in ("unsubscribe", "unsub", "list-unsubscribe") for mark in "+-=.")
_DELIVERED_TO = ("x-original-to", "delivered-to", "envelope-to", "to")
_SUBJECT = re.compile(r"\s*(?:list-)?(?:unsubscribe|unsub)(?:[ :=_-]{1,4}\S{1,200})?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """Who wants off, and what told us so."""

    address: str | None
    found_in: str
    sign: str
    return_path: ReturnPath | None


def read_unsubscribe(headers: Headers, delivered_to: str | None) -> Unsubscription | None:
    """The wish to unsubscribe in a mail with *headers*, or None."""
    addresses = [address for value in _places(headers, delivered_to) if (address := address_in(value))]
    path = next((found for address in addresses if (found := read_return_path(address))), None)
    sign = next((f"delivered to {address}" for address in addresses if _is_unsubscribe_address(address)), "")
    if not sign:
        subject = decoded_words(headers.get("subject"))
        # "Re: unsubscribe" is somebody talking about it.
        if not _SUBJECT.fullmatch(subject[:300]):
            return None
        sign = f"Subject: {subject.strip()[:80]}"
    if path is not None:
        return Unsubscription(path.recipient(), "the address it was sent to", sign, path)
    sender = address_in(headers.get("from"))
    return Unsubscription(sender, "From", sign, None)


def _places(headers: Headers, delivered_to: str | None) -> list[str]:
    places = [delivered_to] if delivered_to else []
    for name in _DELIVERED_TO:
        places.extend(headers.get_all(name))
    return places


def _is_unsubscribe_address(address: str) -> bool:
    local = address.rpartition("@")[0].lower()
    return local in _WORDS or local.startswith(_BEFORE_AN_ID)
