"""mailvane: what became of your mail, recorded on disk and delivered to whoever needs to know."""

from typing import TYPE_CHECKING

from mailvane.errors import EventRejected, MailvaneError, QueueUnavailable
from mailvane.events import Event
from mailvane.version import __version__

if TYPE_CHECKING:
    from mailvane.recorder import AsyncRecorder, Recorder

__all__ = ["AsyncRecorder", "Event", "EventRejected", "MailvaneError", "QueueUnavailable", "Recorder", "__version__"]


def __getattr__(name: str) -> object:
    # The recorders bring SQLite and the event loop along; `mailvane --help` and who wants an Event need neither.
    if name in {"Recorder", "AsyncRecorder"}:
        from mailvane import recorder

        return getattr(recorder, name)
    raise AttributeError(f"module 'mailvane' has no attribute {name!r}")
