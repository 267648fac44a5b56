"""Automatic replies (RFC 3834): a person is away, a ticket was opened. No bounce, nothing to record."""

from mailvane.bounces.headers import Headers, decoded_words

_SUBJECTS = (
    "auto:",
    "autoreply",
    "auto-reply",
    "auto reply",
    "automatic reply",
    "automated reply",
    "out of office",
    "out of the office",
    "vacation",
    "abwesenheit",
    "automatische antwort",
    "réponse automatique",
    "respuesta automática",
    "risposta automatica",
    "自動応答",
    "自動返信",
)
_PRECEDENCE = frozenset({"auto_reply", "auto-reply", "autoreply"})


def auto_reply_sign(headers: Headers) -> str | None:
    """What in *headers* marks an automatic reply, as ``Field: value``; None if nothing does.

    To be asked after the report types: Postfix and Exim mark their DSNs ``Auto-Submitted: auto-replied`` too.
    """
    submitted = headers.get("auto-submitted").strip().lower()
    if submitted.startswith(("auto-replied", "auto-notified")):
        return f"Auto-Submitted: {submitted[:80]}"
    for name in ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-response", "x-mail-autoreply"):
        if name in headers:
            return f"{name.title()}: {headers.get(name)[:80]}"
    for name in ("precedence", "x-precedence"):
        if headers.get(name).strip().lower() in _PRECEDENCE:
            return f"{name.title()}: {headers.get(name)[:80]}"
    subject = decoded_words(headers.get("subject")).strip().lower()
    for sign in _SUBJECTS:
        if subject.startswith(sign) or (len(sign) > 8 and sign in subject[:120]):
            return f"Subject: {subject[:80]}"
    return None
