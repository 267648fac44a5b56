"""`mailvane ingest mail`: mails that came back become events."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mailvane.bounces import BYTES_AT_MOST, read_head
from mailvane.cli.output import say, say_json, tell
from mailvane.cli.parsing import Spec
from mailvane.configuration.home import existing_home
from mailvane.configuration.settings import Settings, load_settings
from mailvane.errors import HomeMissing, MailvaneError, QueueUnavailable
from mailvane.recorder import Recorder
from mailvane.sources.mail import MailMeaning, events_of

DEFAULT_BOUNCE_TEXT = 1_000


@dataclass(frozen=True)
class _Ingested:
    """A mail, what it means, and the ids of its events: None where the type is off or nothing was to be recorded.

    `error`: why they could not be recorded.
    """

    file: str
    meaning: MailMeaning
    ids: Sequence[int | None]
    error: str = ""


def _mail(args: argparse.Namespace) -> int:
    files: Sequence[str] = args.files or ["-"]
    text_length = _bounce_text_length(args)
    recorder = None if args.dry_run else Recorder(args.home)
    status = 0
    try:
        for file in files:
            try:
                raw = _read(file)
            except OSError as error:
                tell(f"{file}: {error.strerror or error}; it was not taken in")
                status = 1
                continue
            meaning = events_of(raw, args.recipient, text_length, int(time.time()))
            try:
                done = _Ingested(file, meaning, _record(recorder, meaning, file))
            except MailvaneError as error:
                if file == "-":
                    raise
                tell(str(error))
                status = 1
                done = _Ingested(file, meaning, [None] * len(meaning.events), str(error))
            if file == "-" and not args.dry_run:
                # It is on disk: from here on nothing may make the mail server hand it over again.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                with contextlib.suppress(OSError, ValueError):
                    _show(done, args)
            else:
                _show(done, args)
    finally:
        if recorder is not None:
            recorder.close()
    return status


def _bounce_text_length(args: argparse.Namespace) -> int:
    try:
        settings: Settings = load_settings(existing_home(args.home))
    except HomeMissing:
        if not args.dry_run:
            raise
        return DEFAULT_BOUNCE_TEXT
    return settings.bounce_text_length


def _read(file: str) -> bytes:
    """As much of a mail as is looked at. Raises OSError."""
    if file != "-":
        with open(file, "rb") as stream:
            return stream.read(BYTES_AT_MOST + 1)
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by the caller: `<&-`
        raise OSError("standard input is closed")
    with open(0, "rb", buffering=0, closefd=False) as stream:
        return read_head(stream)


def _record(recorder: Recorder | None, meaning: MailMeaning, file: str) -> Sequence[int | None]:
    """All events of a mail or none, so that it can be taken in again.

    Of more than 1,000, an earlier part may be in when a later raises.
    """
    if recorder is None or not meaning.events:
        return [None] * len(meaning.events)
    try:
        return recorder.record_many(meaning.events)
    except QueueUnavailable as error:
        raise QueueUnavailable(f"{file}: could not be recorded: {error}") from error
    except MailvaneError as error:
        raise MailvaneError(f"{file}: could not be recorded: {error}") from error


def _show(done: _Ingested, args: argparse.Namespace) -> None:
    if args.json:
        say_json(_as_json(done, bool(args.explain)))
    elif not done.error:  # else it was told
        for line in _lines(done, bool(args.explain), bool(args.dry_run)):
            say(line)


def _as_json(done: _Ingested, explain: bool) -> dict[str, object]:
    events: list[dict[str, object]] = []
    for event, event_id in zip(done.meaning.events, done.ids, strict=True):
        named = {"id": event_id} if event_id is not None else {}
        events.append({**named, **msgspec.to_builtins(event), "recorded": event_id is not None})
    line: dict[str, object] = {
        "file": done.file,
        "kind": done.meaning.kind,
        "events": events,
        "reason": done.meaning.reason,
    }
    if done.error:
        line["error"] = done.error
    if explain:
        line["explanations"] = [
            {"address": e.address, "found_in": e.found_in, "rule": e.rule, "sentence": e.sentence}
            for e in done.meaning.explanations
        ]
    return line


def _lines(done: _Ingested, explain: bool, dry_run: bool) -> Iterator[str]:
    yield f"{done.file}: {done.meaning.kind}: {done.meaning.reason}"
    for event, event_id in zip(done.meaning.events, done.ids, strict=True):
        kind = f" {event.bounce_type} {event.bounce_code}" if event.bounce_type else ""
        off = "would be recorded if its type is on" if dry_run else "not recorded: its type is off"
        became = f"recorded as event {event_id}" if event_id is not None else off
        yield f"  {event.event_type}{kind}  {event.email}  {became}"
    if explain:
        for why in done.meaning.explanations:
            yield f"  {why.address}: found in {why.found_in}" + (
                f"; rule {why.rule}, which saw: {why.sentence}" if why.rule else ""
            )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="mails, one a file; - or none: one on standard input")
    parser.add_argument("--recipient", metavar="ADDRESS", help="the address that the mail was delivered to")
    parser.add_argument("--dry-run", action="store_true", help="records nothing, and needs no home")
    parser.add_argument("--explain", action="store_true", help="shows the rule that judged, and the words it saw")


MAIL = Spec(
    about="Takes in mails that came back: bounces, feedback reports, unsubscribe mails. Finds out which they are "
    "and records what they mean: bounce_all (and bounce_bad_address for a hard bounce), scomp, engine_unsub. "
    "A mail that is none of these, and a type that is off, are no error. Of a large mail the first 1 MiB is "
    "looked at.\n\n"
    "Exit status 1 if a file could not be read or recorded. With -, as mail servers call it, 0, or 75 for "
    "whatever else happens, so that they keep the mail and try again. --recipient gives the address it was "
    "delivered to, which tells the bounced address where the return path is a VERP one.",
    examples=[
        ("mailvane ingest mail bounce.eml", "one mail"),
        ("mailvane ingest mail --dry-run --explain --json *.eml", "only shows what each would become, and why"),
        (
            "mailvane ingest mail --home /var/lib/mailvane --recipient=${original_recipient} -",
            "in Postfix's master.cf, behind pipe(8)'s argv=",
        ),
    ],
    arguments=_arguments,
    run=_mail,
)
