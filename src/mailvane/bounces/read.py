"""One mail in, its facts out. The order in which detectors are asked is here, and only here.

1. Delivery status notifications, because they mark themselves ``Auto-Submitted: auto-replied`` like holiday notices.
2. Feedback reports, then Hotmail's.
3. Delivery status in the text, if something says that a mail system returned the mail.
4. Wishes to unsubscribe, if nothing says so.
5. Other bounces, if something says so, and it or the mail's text is surely a mail system's.
6. Automatic replies.
7. Other bounces that are left.
"""

from mailvane.bounces.arf import NO_COMPLAINT, FeedbackReport, read_arf, read_hotmail
from mailvane.bounces.attribution import read_attribution
from mailvane.bounces.auto_reply import auto_reply_sign
from mailvane.bounces.dsn import read_dsn, read_dsn_in_text
from mailvane.bounces.facts import MailFacts, Recipient
from mailvane.bounces.failures import from_dsn, from_letter
from mailvane.bounces.mime import Mail, parse_mail
from mailvane.bounces.other_forms import looks_returned
from mailvane.bounces.unsubscribe import read_unsubscribe


def read_mail(raw: bytes, recipient: str | None = None) -> MailFacts:
    """What the mail *raw* says; *recipient* is the address that it was delivered to, if the mail server told.

    At most 1 MiB is looked at; whatever the bytes are, this raises nothing and ends within a second or two of processor
    time (outside of the main thread, where nothing can be interrupted, within some more).
    """
    if not raw.strip():
        return MailFacts("none", "", "the mail is empty")
    mail = parse_mail(raw)
    report = read_dsn(mail)
    if report is not None and report.recipients:
        return from_dsn(mail, report, recipient)
    reports = read_arf(mail)
    if reports:
        return _from_reports(mail, reports, "rfc5965")
    hotmail = read_hotmail(mail)
    if hotmail:
        return _from_reports(mail, (hotmail,), "hotmail")
    returned_by = _report_type(mail) or looks_returned(mail.headers)
    in_text = read_dsn_in_text(mail) if returned_by else None
    if in_text is not None:
        return from_dsn(mail, in_text, recipient)
    if not returned_by:
        wish = read_unsubscribe(mail.headers, recipient)
        if wish is not None:
            attribution = read_attribution(mail.headers, wish.return_path)
            if wish.address is None:
                return MailFacts("unsubscribe", "rfc2369", f"{wish.sign}, but nobody to unsubscribe was found")
            person = Recipient(wish.address, wish.found_in)
            return MailFacts("unsubscribe", "rfc2369", wish.sign, (person,), attribution)
    letter = from_letter(mail, returned_by, recipient) if returned_by else None
    understood = letter is not None and (letter.form != "headers" or _from_a_mail_system(returned_by or ""))
    sign = None if understood else auto_reply_sign(mail.headers)
    if sign:
        # Automatic replies have a null return path too (RFC 3834, 3.3): that alone makes no bounce of one.
        return MailFacts("auto_reply", "rfc3834", f"an automatic reply: {sign}")
    if letter is not None:
        return letter
    return MailFacts("none", "", f"no bounce, complaint, unsubscription or automatic reply{mail.cut_note}")


def _from_a_mail_system(returned_by: str) -> bool:
    """Is what marks the mail as returned something that no holiday notice has?"""
    return returned_by.startswith(("From:", "Sender:", "Content-Type:", "X-Failed"))


def _report_type(mail: Mail) -> str:
    """``multipart/report``, where that is what the mail calls itself, although its report was not found."""
    is_report = mail.parts[0].media_type == "multipart/report"
    return "Content-Type: multipart/report" if is_report else ""


def _from_reports(mail: Mail, reports: tuple[FeedbackReport, ...], form: str) -> MailFacts:
    complaints = tuple(report for report in reports if report.feedback_type not in NO_COMPLAINT)
    about = (complaints or reports)[0]
    attribution = read_attribution(about.returned, about.return_path)
    if not complaints:
        reason = f"a feedback report of type {about.feedback_type[:60]}, which is no complaint"
        return MailFacts("none", form, reason, (), attribution)
    people: dict[str, Recipient] = {}
    for report in complaints:
        path = report.return_path
        found_in = "return path" if path else report.found_in
        for address in (path.recipient(report.recipients),) if path else report.recipients:
            own = read_attribution(report.returned, path)
            people.setdefault(address.casefold(), Recipient(address, found_in, attribution=own))
    reason = f"a feedback report of type {about.feedback_type[:60] or 'unknown'}"
    if not people:
        reason += " that does not tell who complained"
    return MailFacts("complaint", form, reason + mail.cut_note, tuple(people.values()), attribution)
