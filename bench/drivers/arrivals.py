"""Notes when what arrives: arrivals.py PORT COUNT. Prints `ID NANOSECONDS` (CLOCK_MONOTONIC) at the end."""

import re
import socket
import sys
import threading
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ID = re.compile(rb'\{"id":(\d+),')


def main(port: int, count: int) -> None:
    arrived: list[tuple[int, int]] = []
    all_here = threading.Event()

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            now = time.monotonic_ns()
            for found in ID.findall(data):
                arrived.append((int(found), now))
            if data.endswith(b"}"):
                connection.sendall(ANSWER)
            if len(arrived) >= count:
                all_here.set()

    listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    if not all_here.wait(60):
        raise SystemExit(f"only {len(arrived)} of {count} arrived")
    for event_id, now in arrived:
        print(event_id, now)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
