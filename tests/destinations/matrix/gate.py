"""Stands before a server, in threads of its own: passes everything on, lets nobody in, or answers with rubbish."""

import contextlib
import socket
import threading
from typing import Self

from support.ports import free_port

RUBBISH = b"\x16\x00\x00\x00this is no database\r\n" * 8


class Gate:
    """Listens on `port` of 127.0.0.1 inside `with`, while it is not shut."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = free_port()
        self.rubbish = False
        """Whoever connects now gets RUBBISH instead of the server."""
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Lets everybody in."""
        self._listener = listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuses connections, and cuts those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        with self._lock:
            for side in self._open:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.rubbish:
                client.sendall(RUBBISH)
                client.recv(1)  # until the client has had enough
                return
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {client, server}
                back = threading.Thread(target=_pass, args=(server, client), daemon=True)
                back.start()
                _pass(client, server)
                back.join()
                with self._lock:
                    self._open -= {client, server}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shut()


def _pass(from_side: socket.socket, to_side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := from_side.recv(256 * 1024):
            to_side.sendall(data)
    for side in (from_side, to_side):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
