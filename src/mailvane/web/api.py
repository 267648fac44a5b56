"""What all handlers share: the service, and how much of it one moment may take."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.requests import Request

from mailvane.operations.service import Service
from mailvane.web.answers import Refused

SMALL_BODY = 64 * 1024
"""Bytes up to which a body is taken at once; of larger ones, LARGE_BODIES are in memory at a time."""
LARGE_BODIES = 16
LARGE_WAIT = 15.0
LOOKING = 4
"""Requests that read the queue for people at a time: each has a thread and a connection to the database."""


class Gone(Exception):
    """The client went away, or was sent away, before its request was complete: there is nobody to answer."""


class Api:
    """Stands in front of a service. Whoever stops it says so in `stopping`; then it is not ready any more."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stopping = False
        self.looking = asyncio.Semaphore(LOOKING)
        # The two doors have room each, so that nobody on the network keeps this machine's programs from recording.
        self._large = {False: asyncio.Semaphore(LARGE_BODIES), True: asyncio.Semaphore(LARGE_BODIES)}

    @property
    def trouble(self) -> str:
        """Why nothing is taken now; "" if all is well."""
        if self.stopping:
            return "mailvane is stopping"
        if self.service.intake is None or self.service.plans is None:
            return "mailvane is starting"
        return self.service.trouble

    def check_started(self) -> None:
        """Raises Refused before the service is ready to be asked."""
        if self.service.intake is None or self.service.plans is None:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, self.trouble, {"retry-after": "1"})

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The whole body, and room for it as long as the block lasts. Raises Gone, and Refused where there is no room.

        How long and how large it may be is seen to where it comes in (bounds.py).
        """
        message = await request.receive()
        if message["type"] != "http.request":
            raise Gone
        if not message["more_body"]:
            yield message["body"]
            return
        body, room = bytearray(message["body"]), None
        try:
            while message["more_body"]:
                if room is None and len(body) > SMALL_BODY:
                    room = await self._room(request)
                message = await request.receive()
                if message["type"] != "http.request":
                    raise Gone
                body += message["body"]
            yield bytes(body)
        finally:
            if room is not None:
                room.release()

    async def _room(self, request: Request) -> asyncio.Semaphore:
        room = self._large[is_local(request)]
        try:
            async with asyncio.timeout(LARGE_WAIT):
                await room.acquire()
        except TimeoutError:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many large requests at once; send it again in a moment",
                {"retry-after": "1"},
            ) from None
        return room


def is_local(request: Request) -> bool:
    """Whether the request came by the Unix socket."""
    return bool(request.scope["state"].get("local"))
