"""Two sick endpoints: sick.py SILENT REFUSING (ports). The first accepts and reads nothing, the second answers 404."""

import asyncio
import socket
import sys

ANSWER = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Refusing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}") and isinstance(self.transport, asyncio.Transport):
            self.transport.write(ANSWER)


async def main(silent: int, refusing: int) -> None:
    held: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", silent), backlog=1024)
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.create_server(Refusing, "127.0.0.1", refusing)
    print("ready", flush=True)
    while True:
        connection, _ = await loop.sock_accept(listener)
        held.append(connection)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
