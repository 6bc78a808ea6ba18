"""The probe: a client in a room of its own that pings without pause, in a process of its own.

``python -m bench.ping_probe PORT ROOM GREETING`` connects, says the messages of GREETING (in hex, with commas between
them), writes a line when it has its first pong, and goes on until its standard input ends. Then it writes how long
the longest of its pings took, in milliseconds: for that long the server's event loop was held.
"""

import contextlib
import os
import select
import socket
import sys
import time

from .protocols import frame

PING = b"\x89\x84\x00\x00\x00\x00ping"
PING_FRAME, PONG = 0x89, 0x8A
PAUSE = 0.001
LIMIT = 120.0
"""Seconds after which it stops in any case."""


class Socket:
    """A WebSocket that blocks."""

    def __init__(self, port: int, room: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self.write(
            f"GET /{room} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            self._more()
        self._data = self._data.partition(b"\r\n\r\n")[2]

    def write(self, data: bytes) -> None:
        """Send."""
        self._socket.sendall(data)

    def frame(self) -> tuple[int, bytes]:
        """Wait for a frame and return its first byte and what it carries; a ping is answered."""
        while (found := self._frame())[0] == PING_FRAME:
            self.write(bytes((PONG, 0x80 | len(found[1]), 0, 0, 0, 0)) + found[1])
        return found

    def _frame(self) -> tuple[int, bytes]:
        self._need(2)
        first, size, at = self._data[0], self._data[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            self._need(at)
            size = int.from_bytes(self._data[2:at], "big")
        self._need(at + size)
        payload, self._data = self._data[at : at + size], self._data[at + size :]
        return first, payload

    def _need(self, size: int) -> None:
        while len(self._data) < size:
            self._more()

    def _more(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server hung up on the probe")
        self._data += data


def main() -> None:
    """Ping until standard input ends."""
    port, room, greeting = sys.argv[1:]
    # The load is on the same core, and the probe's wait for its turn would count as the server's.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    probe = Socket(int(port), room)
    for message in greeting.split(","):
        probe.write(frame(bytes.fromhex(message), binary=bool(room)))
    longest = 0.0
    started = time.perf_counter()
    ready = False
    while time.perf_counter() - started < LIMIT:
        sent = time.perf_counter()
        probe.write(PING)
        # A server that holds for longer than this goes on has held for so long, at least.
        with contextlib.suppress(TimeoutError):
            while probe.frame()[0] != PONG:
                pass
        if ready:
            longest = max(longest, time.perf_counter() - sent)
        elif time.perf_counter() - started > 0.2:
            ready = True
            print("ready", flush=True)
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            break
    print(longest * 1000, flush=True)


if __name__ == "__main__":
    main()
