"""A process that owns the queue: starts what was asked for, waits for a reason to end, ends with nothing lost.

SIGTERM, SIGINT   ends within ten seconds: what is on its way may arrive, what was acknowledged is on disk
the same again    ends at once; a repeat of what was on its way is possible, a loss is not
SIGHUP            log files that events are written to are opened anew
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mailvane.configuration.settings import Settings
from mailvane.configuration.watch import LegacyFile
from mailvane.errors import MailvaneError, QueueTooNew, QueueUnavailable
from mailvane.operations.service import Service
from mailvane.operations.taking_over import take_ownership

OPEN_FILES = 65_536
END_WITHIN = 9.0
"""Seconds after the first signal when the process ends in any case."""
WEB_GRACE = 2.0
DELIVERY_GRACE = 5.0
LOOK_EVERY = 0.25
START_AGAIN = 0.5
SOCKET_AFTER = 1.0
"""Seconds that `processor --once` may take before others are let in by its socket."""

log = logging.getLogger("mailvane")


@dataclass(frozen=True)
class Parts:
    """What runs. Without `web` there is the Unix socket alone: others record through it."""

    command: str
    web: bool = True
    deliver: bool = True
    once: bool = False
    mail: bool = False


Stop = Callable[[float], Awaitable[object]]


def run_process(settings: Settings, parts: Parts, config: LegacyFile | None = None) -> int:
    """Runs in the foreground until it is ended; returns the exit status. Raises MailvaneError if it cannot start."""
    raise_open_files()
    status: int | None = None
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            alone = parts.mail and not parts.web and not parts.deliver
            status = runner.run(_take_mail(settings, parts) if alone else _run(settings, parts, config))
    except RuntimeError:
        # All is over; but asyncio wants a thread to wait for its others, and there may be none to be had any more.
        if status is None:
            raise
    return status


def raise_open_files() -> None:
    """The soft limit of open files to the hard one: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # PyPy has none
        return None
    return uvloop.new_event_loop


async def _run(settings: Settings, parts: Parts, config: LegacyFile | None) -> int:
    ending = _Ending()
    lock = await take_ownership(settings, parts.command)
    service = Service(settings, lock)
    tasks: list[asyncio.Task[None]] = []
    stops: list[Stop] = []
    try:
        if not await _started(service, parts, config, ending):
            return 0
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reopen_logs)
        _spare_the_collector()
        waits_for = [asyncio.create_task(ending.asked.wait()), asyncio.create_task(_broken(service))]
        if parts.deliver:
            delivery = asyncio.create_task(service.deliver(parts.once))
            tasks.append(delivery)
            waits_for.append(delivery)
            if parts.once:
                await asyncio.wait(waits_for, timeout=SOCKET_AFTER, return_when=asyncio.FIRST_COMPLETED)
        tasks.append(asyncio.create_task(service.look_at_configuration()))
        if not any(task.done() for task in waits_for):
            stops.append(await _serve(service, parts))
            tasks.append(asyncio.create_task(service.tell_summaries()))
            if parts.mail:
                stops.append(_begin_to_take(service, tasks))
        await asyncio.wait(waits_for, return_when=asyncio.FIRST_COMPLETED)
        return _outcome(service, tasks[0] if parts.deliver else None, parts)
    finally:
        ending.begin()
        for stop in stops:
            await stop(WEB_GRACE)
        await service.stop(DELIVERY_GRACE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ending.done()


async def _started(service: Service, parts: Parts, config: LegacyFile | None, ending: "_Ending") -> bool:
    """Waits for a database that is away; False if this process is to end before that."""
    said = ""
    while not ending.asked.is_set():
        try:
            await service.start(parts.deliver, config)
            return True
        except QueueUnavailable as e:
            if parts.once or not service.waits_for_queue or isinstance(e, QueueTooNew):
                raise
            if str(e) != said:
                log.warning("waits for the queue: %s", e)
            said = str(e)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_AGAIN):
                await ending.asked.wait()
    return False


async def _serve(service: Service, parts: Parts) -> Stop:
    from mailvane.web.server import serve

    running = await serve(service, tcp=parts.web)
    where = [f"http://{replace(service.settings.http_listen, port=running.port)}"] if parts.web else []
    where += [running.socket_path] if running.socket_path else []
    log.info("ready: %s, process %d, listens on %s", parts.command, os.getpid(), " and ".join(where) or "nothing")
    return running.stop


def _begin_to_take(service: Service, tasks: list[asyncio.Task[None]]) -> Stop:
    from mailvane.operations.taking_mail import named, taker_of, tell_mail

    taker = taker_of(service)
    service.more_problems = lambda: taker.problems
    tasks += [asyncio.create_task(taker.run()), asyncio.create_task(tell_mail(taker))]
    log.info("takes mail from %s", named(service.settings.maildirs))
    return taker.stop


async def _take_mail(settings: Settings, parts: Parts) -> int:
    """A process that has no queue of its own, and so stands beside any other."""
    from mailvane.operations.taking_mail import take_beside

    ending = _Ending()
    try:
        await take_beside(settings, f"{parts.command}, process {os.getpid()}", ending.asked, WEB_GRACE)
    finally:
        ending.begin()
        ending.done()
    return 0


async def _broken(service: Service) -> None:
    """Returns when nothing may be written any more: another process has to start from what is on disk."""
    while not service.queue.broken:
        await asyncio.sleep(LOOK_EVERY)


def _outcome(service: Service, delivery: "asyncio.Task[None] | None", parts: Parts) -> int:
    if service.queue.broken:
        log.error("the queue cannot be written any more: %s", service.queue.broken)
        return 1
    if delivery is not None and delivery.done():
        error = delivery.exception()
        if isinstance(error, MailvaneError):
            log.error("delivery has ended: %s", error)
            return 1
        if error is not None:
            told = isinstance(error, MailvaneError)
            log.error("delivery has ended%s", f": {error}" if told else "", exc_info=None if told else error)
            return 1
        if parts.once and service.plans is not None and service.plans.state.kind == "none":
            return 1  # told when it was read
    return 0


def _spare_the_collector() -> None:
    """What is there now stays: not looked at again. Events live short, and reference counting frees them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class _Ending:
    """SIGTERM and SIGINT: the first asks, the second ends at once; nothing takes longer than END_WITHIN."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._timer: threading.Timer | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _signalled(self) -> None:
        if self.asked.is_set():
            log.warning("ended at once; what was on its way is sent again at the next start")
            os._exit(1)
        log.info("ending; the same signal again ends at once")
        self.asked.set()
        self.begin()

    def begin(self) -> None:
        """From now on there are END_WITHIN seconds."""
        if self._timer is None:
            self._timer = threading.Timer(END_WITHIN, _end_now)
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # no thread can be started any more: the signal's own way of ending has to do
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, END_WITHIN)

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        log.info("ended")


def _end_now() -> None:
    log.error("ended without waiting any longer; what was acknowledged is on disk")
    os._exit(1)


def config_file(path: str) -> LegacyFile:
    """The file that `--config` names. Raises MailvaneError with its mistakes: there is no last good one of it."""
    file = Path(path).absolute()
    look = LegacyFile(file).look()
    if look.plan is None:
        raise MailvaneError(f"nothing was started; {path} is not usable:\n{look.state.report}")
    return LegacyFile(file)
