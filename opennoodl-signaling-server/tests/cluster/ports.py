"""Ports that stay those of a test while nobody listens on them: before a server starts, and until it starts again."""

from __future__ import annotations

import socket
import sys


def held_port() -> tuple[socket.socket, int]:
    """Return a free port, and a socket that keeps it from being given to anybody who asks for any port.

    A server with SO_REUSEADDR may listen on it meanwhile, on Linux. Elsewhere the port is only free.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    if sys.platform != "linux":
        held.close()
    return held, port
