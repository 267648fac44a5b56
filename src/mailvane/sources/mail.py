"""Mail that came back, as events.

A hard bounce is two events, ``bounce_all`` and ``bounce_bad_address``; a soft or other one is ``bounce_all`` alone.
A complaint is ``scomp``, a wish to unsubscribe ``engine_unsub``. Automatic replies, delays, successes and ordinary
mail are none.
"""

from dataclasses import dataclass

from mailvane.bounces import Attribution, Kind, MailFacts, Recipient, read_mail
from mailvane.events import Event

_CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\ufffd")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the events of one recipient are what they are, for ``--explain``."""

    address: str
    found_in: str
    """Where the address stood: ``return path``, ``Original-Recipient`` …"""
    rule: str
    """The rule that judged the failure; empty where nothing was judged."""
    sentence: str
    """The words, the status or the code that the rule saw."""


@dataclass(frozen=True, slots=True)
class MailMeaning:
    """What a mail is, and the events that it means."""

    kind: Kind
    events: tuple[Event, ...]
    reason: str
    """One sentence for people, also on why there is no event."""
    explanations: tuple[Explanation, ...]


def events_of(raw: bytes, recipient: str | None, bounce_text_length: int, now: int) -> MailMeaning:
    """The events that the mail *raw* means.

    *recipient* is the address that it was delivered to, if known; *bounce_text_length* is in characters; *now*, in
    seconds since the Unix epoch, becomes the events' time: a mail's own date is whatever its sender wrote. Raises
    nothing, whatever *raw* holds.
    """
    facts = read_mail(raw, recipient)
    events: list[Event] = []
    explanations: list[Explanation] = []
    for person in facts.recipients:
        events.extend(_events(facts, person, bounce_text_length, now))
        verdict = person.verdict
        explanations.append(
            Explanation(
                person.address,
                person.found_in,
                _plain(verdict.rule) if verdict else "",
                _plain(verdict.sentence) if verdict else "",
            )
        )
    return MailMeaning(facts.kind, tuple(events), _plain(facts.reason), tuple(explanations))


def _events(facts: MailFacts, person: Recipient, bounce_text_length: int, now: int) -> tuple[Event, ...]:
    about = person.attribution or facts.attribution
    if facts.kind == "complaint":
        return (_event("scomp", person.address, about, now),)
    if facts.kind == "unsubscribe":
        return (_event("engine_unsub", person.address, about, now),)
    if facts.kind != "bounce" or person.verdict is None:
        return ()
    text = _plain(person.text)[:bounce_text_length]
    verdict = person.verdict

    def bounce(event_type: str, synchronous: bool | None) -> Event:
        return Event(
            event_type=event_type,
            email=person.address,
            event_time=now,
            listid=about.listid,
            sendid=about.sendid,
            mail_class=about.mail_class,
            click_tracking_id=about.click_tracking_id,
            bounce_type=verdict.bounce_type,
            bounce_code=verdict.bounce_code,
            bounce_text=text,
            msguid=about.queue_id,
            synchronous=synchronous,
        )

    # False: it came back as a message, later than the SMTP conversation.
    came_back = bounce("bounce_all", synchronous=False)
    if verdict.bounce_type != "h":
        return (came_back,)
    return (came_back, bounce("bounce_bad_address", synchronous=None))


def _event(event_type: str, address: str, about: Attribution, now: int) -> Event:
    return Event(
        event_type=event_type,
        email=address,
        event_time=now,
        listid=about.listid,
        sendid=about.sendid,
        mail_class=about.mail_class,
        click_tracking_id=about.click_tracking_id,
    )


def _plain(text: str) -> str:
    """*text* without control characters and lone surrogates: it is shown in terminals and stored in databases."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")
