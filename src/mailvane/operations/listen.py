"""`mailvane listen`: an endpoint for people who develop one. It shows what arrives and answers as it is told to.

It takes the legacy object, an array of objects and the legacy form, and prints each request before it is answered.
Nothing that arrives can write control characters to the terminal: they are shown as escapes. How HTTP is spoken is in
endpoint.py.
"""

import asyncio
import contextlib
import errno
import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO, cast
from urllib.parse import parse_qsl

import msgspec

from mailvane.errors import MailvaneError
from mailvane.operations.endpoint import Connection, Endpoint, Request

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_PORT = 3000
SHOWN = 20
"""Events of one request that the readable form shows."""
SHOWN_LENGTH = 300
"""Characters of one value that the readable form shows."""


class CannotListen(MailvaneError):
    """The port cannot be listened on; the text says why and what to do."""


def listen(port: int, status: int, delay: float, as_json: bool, out: TextIO) -> int:
    """Serves until SIGTERM or Ctrl-C, which end it at once; returns the exit status, 0. Raises CannotListen."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, stop.set)
        await serve(port, status, delay, as_json, out, stop)

    asyncio.run(main())
    return 0


async def serve(
    port: int,
    status: int,
    delay: float,
    as_json: bool,
    out: TextIO,
    stop: asyncio.Event,
    notice: TextIO | None = None,
) -> None:
    """Serves on loopback until `stop` is set. Port 0 takes a free one.

    Each request is answered with `status` after `delay` seconds. Prints its URL when it is ready, on `notice`: by
    default `out`, or with `as_json` standard error, so that `out` has nothing but one JSON object a line.
    Raises CannotListen.
    """
    if not 200 <= status <= 599:
        raise CannotListen(f"{status} is no status that ends a request: choose one from 200 to 599")
    show = _json_lines(out) if as_json else _readable(out)

    def print_request(request: Request) -> None:
        try:
            show(request, status)
            out.flush()
        except BrokenPipeError:
            stop.set()  # whoever read it is gone, as with `| head`

    endpoint = Endpoint(status, delay, print_request)
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", port)
    except (OSError, OverflowError) as error:
        raise CannotListen(_why_not(port, error)) from error
    port = server.sockets[0].getsockname()[1]
    servers = [server]
    # `localhost` is ::1 first on many machines. Where there is no IPv6, there is none.
    with contextlib.suppress(OSError):
        servers.append(await loop.create_server(lambda: Connection(endpoint), "::1", port))
    try:
        print(
            f"listening on http://127.0.0.1:{port}/ and answering {status}; Ctrl-C ends it",
            file=notice or (sys.stderr if as_json else out),
            flush=True,
        )
        await stop.wait()
    finally:
        for server in servers:
            server.close()
        for connection in list(endpoint.connections):
            connection.abort()


def _why_not(port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return f"{port} is no port: choose one from 1 to 65535, or 0 for one that is free"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: choose another with --port, or --port 0 for one that is free"
    if error.errno == errno.EACCES:
        return f"port {port} may not be listened on by this user: choose one above 1023 with --port"
    return f"port {port} cannot be listened on: {error.strerror}"


# What a request carries.


def events_in(request: Request) -> list[dict[str, object]] | None:
    """The events of a request's body; None when it is neither a JSON object, nor an array of them, nor a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(
                request.body.decode("utf-8", "backslashreplace"), keep_blank_values=True, max_num_fields=1_000
            )
        except ValueError:
            return None
        return [dict(pairs)] if pairs else None
    try:
        found = cast(object, msgspec.json.decode(request.body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    several = cast(list[object], found) if isinstance(found, list) else [found]
    events = [cast(dict[str, object], one) for one in several if isinstance(one, dict)]
    return events if len(events) == len(several) else None


def visible(text: str) -> str:
    """The text with everything that does not print (control characters, what turns text around) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply)"


# How it is shown.


def _json_lines(out: TextIO) -> Callable[[Request, int], None]:
    def show(request: Request, status: int) -> None:
        line: dict[str, object] = {
            "path": request.path,
            "headers": request.headers,
            "events": events_in(request) or [],
            "status": status,
        }
        try:
            text = json.dumps(line)  # ASCII, so that nothing can reach a terminal but what prints
        except RecursionError:
            text = json.dumps(line | {"events": []})
        out.write(text + "\n")

    return show


def _readable(out: TextIO) -> Callable[[Request, int], None]:
    from rich.console import Console

    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    encoding = out.encoding or "utf-8"

    def fit(text: str) -> str:
        cut = text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"
        return visible(cut).encode(encoding, "backslashreplace").decode(encoding)

    def show(request: Request, status: int) -> None:
        _show_head(console, fit, request, status)
        events = events_in(request)
        if events is None:
            if request.body:
                console.print("  not understood: " + fit(request.body[:1_000].decode("utf-8", "replace")), style="red")
            return
        for event in events[:SHOWN]:
            _show_event(console, fit, event)
        if len(events) > SHOWN:
            console.print(f"  and {len(events) - SHOWN} more", style="dim")

    return show


def _show_head(console: "Console", fit: Callable[[str], str], request: Request, status: int) -> None:
    from rich.text import Text

    kind = request.headers.get("content-type", "")
    console.print(
        Text.assemble(
            (fit(f"{request.method} {request.path}"), "bold"),
            "  ",
            (fit(kind) + (", " if kind else "") + f"{len(request.body)} bytes", "dim"),
            "  answered ",
            (str(status), "green" if status < 300 else "red"),
        )
    )
    for name in ("webhook-id", "mailvane-attempt"):
        if name in request.headers:
            console.print(Text(f"  {name}: {fit(request.headers[name])}", "dim"))


def _show_event(console: "Console", fit: Callable[[str], str], event: Mapping[str, object]) -> None:
    from rich.text import Text

    first = ("event_type", "email", "id")
    head = [fit(_as_text(event[name])) for name in first if name in event]
    console.print(Text("  " + "  ".join(head), "cyan"))
    for name, value in event.items():
        if name not in first and value not in ("", None):
            console.print(Text.assemble("    ", (fit(name), "dim"), "  ", fit(_as_text(value))))
