"""The errors that a user of mailvane reads. Each says what is wrong, where, and what to do about it."""


class MailvaneError(Exception):
    """Something that a person can act on; its text is shown without a traceback."""


class HomeMissing(MailvaneError):
    """The home folder is not there, or is not one that `mailvane init` made."""


class SettingsBroken(MailvaneError):
    """`mailvane.conf` cannot be used; the text names file, line and column."""


class EventRejected(MailvaneError):
    """An event that the door of `mailvane.events` does not let in.

    `field` names the field at fault ("" when it is the whole), `reason` says what is wrong with it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class QueueUnavailable(MailvaneError):
    """The queue cannot be written or read now (disk full, no permission, the owner is away). Nothing was recorded."""


class QueueOwned(MailvaneError):
    """Another process owns the queue of this home; the text names it."""


class QueueTooNew(QueueUnavailable):
    """The queue was written by a newer mailvane than this one."""


class OwnershipLost(MailvaneError):
    """A settlement carried the term of an owner that is no longer the one in force; nothing of it was done."""
