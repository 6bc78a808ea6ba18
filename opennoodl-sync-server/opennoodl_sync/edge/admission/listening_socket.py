"""The listening socket, for IPv4 and IPv6 at once where the machine has both."""

import asyncio
import errno
import socket
from collections.abc import Iterable

EVERYWHERE = "::"
"""The address that stands for every address of the machine, of IPv4 too."""
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


def listen_everywhere(port: int) -> socket.socket:
    """Return a socket that listens on a port of every address of this machine.

    asyncio would give a socket on ``::`` to IPv6 alone, and two sockets on port 0 two ports.

    Args:
        port: 0 takes any free one.

    Raises:
        OSError: the port cannot be listened on.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server((EVERYWHERE, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:  # containers may have the family and no address of it
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))


async def stop_accepting(sockets: Iterable[socket.socket]) -> None:
    """Accept no more connections on sockets that asyncio listens on, and let those begin that were accepted.

    asyncio's own loop makes the transport of a connection in the turn after it was accepted, and calls
    `connection_made` in the turn after that. If its server is closed in between, the connection stays open without an
    owner (CPython issue 109564). uvloop does both at once.
    """
    loop = asyncio.get_running_loop()
    for listening in sockets:
        loop.remove_reader(listening)
    for _ in range(2):
        await asyncio.sleep(0)
