"""Ports that are reserved for a test while its server does not run."""

from __future__ import annotations

import socket
import sys


def held_port() -> tuple[socket.socket, int]:
    """Return a socket that reserves a free port, and the port.

    While the socket is open, the system gives the port to no process that binds port 0. On Linux, a server with
    SO_REUSEADDR can listen on it. On other systems the socket is closed, and the port is only free at the moment.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    if sys.platform != "linux":
        held.close()
    return held, port
