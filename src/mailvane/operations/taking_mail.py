"""Taking mail from the Maildirs of `mailvane.conf`: in a process that has its queue, or in one of its own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mailvane.clock import SystemClock
from mailvane.configuration.settings import Settings
from mailvane.events.catalogue import Event
from mailvane.operations.service import SUMMARY_EVERY, Service
from mailvane.recorder import AsyncRecorder
from mailvane.recording.session import forms, with_tokens
from mailvane.sources.mailboxes import MailTaker, Record

log = logging.getLogger("mailvane")


def taker_of(service: Service) -> MailTaker:
    """For a process that records for others too."""

    async def record(events: Sequence[Event], token: str) -> int:
        assert service.intake is not None
        groups = with_tokens(forms(service.intake, events), token)
        for group, of in groups:
            await service.queue.appending(group, of)
        return sum(len(group) for group, _ in groups)

    return _taker(service.settings, record, service.metrics.mail)


def taker_beside(settings: Settings, recorder: AsyncRecorder) -> MailTaker:
    """For a process that does nothing else: it records as any program does, by the queue's owner if there is one."""

    async def record(events: Sequence[Event], token: str) -> int:
        return sum(i is not None for i in await recorder.record_many(events, token))

    return _taker(settings, record, lambda kind: None)


def _taker(settings: Settings, record: Record, counted: Callable[[str], None]) -> MailTaker:
    return MailTaker(settings.maildirs, record, settings.bounce_text_length, SystemClock(), counted)


async def tell_mail(taker: MailTaker) -> None:
    """A line a minute in the log, if any mail came."""
    while True:
        await asyncio.sleep(SUMMARY_EVERY)
        if told := taker.summary():
            log.info("mail: %s", told)


async def take_beside(settings: Settings, command: str, ended: asyncio.Event, grace: float) -> None:
    """Takes mail until `ended`, and `grace` seconds for what is in hand then."""
    recorder = AsyncRecorder(settings.home)
    taker = taker_beside(settings, recorder)
    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(taker.run())
        telling = tasks.create_task(tell_mail(taker))
        log.info("ready: %s, takes mail from %s", command, named(settings.maildirs))
        asked = tasks.create_task(ended.wait())
        await asyncio.wait([asked, taking], return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        asked.cancel()
        await taker.stop(grace)
    with contextlib.suppress(Exception):  # what was recorded is on disk
        await recorder.close()


def named(maildirs: Sequence[Path]) -> str:
    return ", ".join(map(str, maildirs))
