"""The listening socket: one for IPv4 and IPv6, if the machine has both."""

import asyncio
import errno
import socket
from collections.abc import Iterable

EVERYWHERE = "::"
"""The value of HOST that means every IPv6 and IPv4 address of the machine."""
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


def listen_everywhere(port: int) -> socket.socket:
    """Return a socket that listens on a port of every address of this machine.

    asyncio would open a socket for IPv6 only on ``::``. With two sockets and port 0, it would use two ports.

    Args:
        port: the TCP port; 0 takes any free one.

    Raises:
        OSError: the port cannot be used.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server((EVERYWHERE, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:  # a container may support IPv6 without an IPv6 address
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))


async def stop_accepting(sockets: Iterable[socket.socket]) -> None:
    """Stop accepting connections, and wait until every accepted connection has a protocol.

    asyncio's own loop makes the transport of a connection in the turn after `accept`, and calls `connection_made` one
    turn later. If its server is closed in between, the connection stays open without an owner (CPython issue 109564).
    uvloop does both at once.

    Args:
        sockets: the listening sockets of asyncio's server.
    """
    loop = asyncio.get_running_loop()
    for listening in sockets:
        loop.remove_reader(listening)
    for _ in range(2):
        await asyncio.sleep(0)
