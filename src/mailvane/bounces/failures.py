"""Bounces: from what a report or a letter tells, to one Recipient for each address that we had sent to.

A failure belongs to the address that we sent to, never to one that it was forwarded to. So an address is looked for
in the return path first, then in Original-Recipient, then in Final-Recipient, and only then elsewhere.
"""

from dataclasses import dataclass
from functools import lru_cache

from mailvane.bounces.addresses import addresses_in_list
from mailvane.bounces.attribution import ReturnPath, find_queue_id, find_return_path, read_attribution
from mailvane.bounces.classify import classify
from mailvane.bounces.dsn import RECIPIENTS_AT_MOST, DeliveryReport, ReportedRecipient
from mailvane.bounces.explanation import Explanation
from mailvane.bounces.facts import MailFacts, Recipient, Verdict
from mailvane.bounces.mime import Mail
from mailvane.bounces.other_forms import BY_SUBJECT, find_failed_addresses, only_address_named
from mailvane.bounces.returned import Returned, read_returned
from mailvane.bounces.status import quoted_reply

TEXT_AT_MOST = 4_000
"""Characters of the server's words that are kept for each recipient."""

_DELAY_SIGNS = ("will continue", "keep trying", "will be retried", "not yet been delivered")


@dataclass(frozen=True, slots=True)
class _Judged:
    """One failure; its address is None if the report names none."""

    address: str | None
    found_in: str
    verdict: Verdict
    text: str


def from_dsn(mail: Mail, report: DeliveryReport, delivered_to: str | None) -> MailFacts:
    """The facts of a delivery status notification; delays and successes are no bounce."""
    returned = read_returned(mail)
    path = find_return_path(delivered_to, mail.headers, returned.headers, report.sender)
    attribution = read_attribution(returned.headers, path, find_queue_id(report.queue_id, returned.headers))
    failed = tuple(reported for reported in report.recipients if reported.action == "failed")
    if not failed:
        return MailFacts("none", "rfc3464", f"a delivery report of {_no_failure(report)}", (), attribution)
    explanation = Explanation(returned.words)
    recipients = _one_each([_judge(one, explanation, path) for one in failed], mail, returned, path)
    reason = "a delivery report of a failure" + ("" if recipients else " that names no usable address")
    if report.cut:
        reason += f"; only its first {RECIPIENTS_AT_MOST} recipients were read"
    return MailFacts("bounce", "rfc3464", reason + mail.cut_note, recipients, attribution)


def from_letter(mail: Mail, returned_by: str, delivered_to: str | None) -> MailFacts | None:
    """The facts of a bounce that is no DSN; *returned_by* is what marks it as one.

    ``form`` is ``headers`` if no detector knew the letter. None if only the subject speaks for a bounce and no
    detector knows the letter: somebody who writes that his parcel was not delivered is no mail server.
    """
    returned = read_returned(mail)
    path = find_return_path(delivered_to, mail.headers, returned.headers, None)
    attribution = read_attribution(returned.headers, path, find_queue_id("", returned.headers))
    letter = find_failed_addresses(mail)
    if (letter.only_delayed or not letter.addresses) and _says_delay(mail, returned.words):
        return MailFacts("none", letter.found_in, "a letter about a delay, the server keeps trying", (), attribution)
    if not letter.addresses and returned_by.startswith(BY_SUBJECT):
        return None
    explanation = Explanation(returned.words)
    judged: list[_Judged] = []
    for named in letter.addresses or (None,):
        words = explanation.about((named,) if named else ())
        address = path.recipient(letter.addresses) if path else named
        found_in = "return path" if path else letter.found_in
        judged.append(_Judged(address, found_in, classify("", "", words), _said("", words)))
    recipients = _one_each(judged, mail, returned, path)
    form = letter.found_in if letter.addresses else "headers"
    reason = f"a bounce ({returned_by})" + ("" if recipients else " that names no usable address")
    return MailFacts("bounce", form, reason + mail.cut_note, recipients, attribution)


def _no_failure(report: DeliveryReport) -> str:
    actions = {reported.action for reported in report.recipients}
    if "delayed" in actions:
        return "a delay, the server keeps trying"
    return "a success, the message was delivered" if "delivered" in actions else "neither failure nor success"


def _judge(reported: ReportedRecipient, explanation: Explanation, path: ReturnPath | None) -> _Judged:
    both = (reported.final_recipient, reported.original_recipient)
    known = tuple(address for address in both if address)
    words = explanation.about(known)
    verdict = classify(reported.diagnostic_code, reported.status, words)
    text = _said(reported.diagnostic_code, words)
    # A return path with something before the recipient is a guess, unless the report confirms it or names nobody.
    if path and (path.sure or not reported.original_recipient or path.recipient(known) in known):
        return _Judged(path.recipient(known), "return path", verdict, text)
    if reported.original_recipient:
        return _Judged(reported.original_recipient, "Original-Recipient", verdict, text)
    return _Judged(reported.final_recipient, "Final-Recipient", verdict, text)


def _said(diagnostic: str, words: str) -> str:
    """What becomes bounce_text: Diagnostic-Code, else the server's answer that the letter quotes, else the letter."""
    return " ".join(diagnostic[: TEXT_AT_MOST * 2].split())[:TEXT_AT_MOST] or _said_in(words)


@lru_cache(maxsize=4)
def _said_in(words: str) -> str:
    quoted = quoted_reply(words)
    return " ".join((quoted if quoted.strip() else words)[: TEXT_AT_MOST * 2].split())[:TEXT_AT_MOST]


def _one_each(judged: list[_Judged], mail: Mail, returned: Returned, path: ReturnPath | None) -> tuple[Recipient, ...]:
    """One Recipient for each address. Where several failures are one address's, the mildest counts.

    That is so when the address that we sent to is a list or is forwarded to several: one of them being gone does
    not mean that the address is.
    """
    elsewhere: tuple[str | None, str] = (None, "")
    if any(failure.address is None for failure in judged):
        elsewhere = _address_elsewhere(mail, returned, path)
    found: dict[str, Recipient] = {}
    for failure in judged:
        address, found_in = (failure.address, failure.found_in) if failure.address else elsewhere
        if address is None:
            continue
        earlier = found.get(address.casefold())
        if earlier is None or _mildness(failure.verdict) < _mildness(earlier.verdict):
            found[address.casefold()] = Recipient(address, found_in, failure.verdict, failure.text)
    return tuple(found.values())


def _mildness(verdict: Verdict | None) -> int:
    return "soh".index(verdict.bounce_type) if verdict else 3


def _address_elsewhere(mail: Mail, returned: Returned, path: ReturnPath | None) -> tuple[str | None, str]:
    """An address for a failure that names none, if there is no doubt about it, and where it was found."""
    if path is not None:
        return path.recipient(), "return path"
    letter = find_failed_addresses(mail)
    if len(letter.addresses) == 1:
        return letter.addresses[0], letter.found_in
    named = only_address_named(mail, returned.words, returned.headers)
    if named:
        return named, "the only address named"
    written_to = addresses_in_list(returned.headers.get("to"))
    return (written_to[0], "To of the returned message") if len(written_to) == 1 else (None, "")


def _says_delay(mail: Mail, words: str) -> bool:
    """Is the letter a warning that a message is late?"""
    text = f"{mail.headers.get('subject')} {words}".lower()
    return any(sign in text for sign in _DELAY_SIGNS)
