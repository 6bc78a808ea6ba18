"""The health probe: asks how a server is and works in a room of its own, in a process of its own.

``python -m bench.health_probe PORT`` asks for ``/health`` and makes round trips between two clients by turns. It
writes a line when both have worked, and goes on until its standard input ends. Then it writes the longest time of each
in milliseconds.
"""

import contextlib
import os
import secrets
import select
import socket
import sys
import time

from .ping_probe import LIMIT, PAUSE, Socket
from .protocols import STEP_1, UPDATE, frame, varbytes, varuint

ROOM = "health-probe"
STEP_2 = b"\x00\x01"
CLIENT = varuint(secrets.randbits(32))
"""Somebody who has not been there before: the room may be an old one."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def health(port: int) -> None:
    """Ask how the server is, over a connection of its own, and wait for the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.sendall(HEALTH)
        while connection.recv(65_536):
            pass


def word(number: int) -> bytes:
    """Return what is typed in a round trip."""
    return b"word%06d;" % number


def typed(number: int) -> bytes:
    """Return the message that types a word, behind the one before if there is one."""
    size, text = len(word(0)), varbytes(word(number))
    if number == 0:
        struct = b"\x04\x01" + varbytes(b"text") + text
    else:
        struct = b"\x84" + CLIENT + varuint(number * size - 1) + text
    return UPDATE + varbytes(b"\x01\x01" + CLIENT + varuint(number * size) + struct + b"\x00")


class Longest:
    """The longest time that something took so far, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds = max(self.seconds, time.perf_counter() - self._began)


def main() -> None:
    """Go on until standard input ends."""
    port = int(sys.argv[1])
    # The attacker is on the same core, and the wait for its turn would count as the server's.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    writer, reader = Socket(port, ROOM), Socket(port, ROOM)
    for client in (writer, reader):
        client.write(frame(STEP_1))
        while client.frame()[1][:2] != STEP_2:
            pass
    asking, working = Longest(), Longest()
    number = 0
    started = time.perf_counter()
    while time.perf_counter() - started < LIMIT:
        # What takes longer than the limit has taken so long, at least.
        with contextlib.suppress(TimeoutError):
            with asking:
                health(port)
            with working:
                writer.write(frame(typed(number)))
                while word(number) not in reader.frame()[1]:
                    pass
        number += 1
        if number == 1:
            asking, working = Longest(), Longest()
            print("ready", flush=True)
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            break
    print(asking.seconds * 1000, working.seconds * 1000, flush=True)


if __name__ == "__main__":
    main()
