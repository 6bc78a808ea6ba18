"""A server listens for IPv4 and IPv6 where the machine has both, and starts where it has not."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from websockets.asyncio.client import connect

from ..conftest import Serve
from ..harness import Echo, listening_socket, service


def has_ipv6() -> bool:
    """Return whether this machine has an address of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return socket.has_dualstack_ipv6()
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="needs a machine with IPv6")
async def test_wildcard_ipv6_address_serves_ipv4_too(serve: Serve) -> None:
    """On `::`, clients of both kinds come to one port, and each has its own address."""
    running = await serve(host="::")
    for host, address in (("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")):
        async with connect(f"ws://{host}:{running.port}/", proxy=None) as client:
            await client.send("here")
            assert await client.recv() == "here"
            (connection,) = running.connections
            assert connection.address == address
            await client.close()
        await running.app.until(lambda: not running.app.connections)


@pytest.mark.skipif(not has_ipv6(), reason="needs a machine with IPv6")
async def test_addresses_of_ipv4_are_counted(serve: Serve) -> None:
    """An IPv4 client has the limits of its own address on a socket for both kinds."""
    running = await serve(host="::", max_connections_per_ip=1)
    async with (
        connect(f"ws://127.0.0.1:{running.port}/", proxy=None),
        connect(f"ws://[::1]:{running.port}/", proxy=None),
    ):
        assert dict(running.http.limits._connections) == {"127.0.0.1": 1, "::/64": 1}


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, None])
def test_ipv4_is_served_where_ipv6_is_missing(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """Where there is no IPv6, or no address of it, IPv4 is served."""
    create = socket.create_server

    def without(address: Any, **options: Any) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(code, "no IPv6")
        return create(address, **options)

    monkeypatch.setattr(socket, "create_server", without)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: code is not None)
    with listening_socket.listen_everywhere(0) as sock:
        assert sock.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 5).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
async def test_port_taken_on_ipv4_is_refused(host: str) -> None:
    """A port that another server has on IPv4 is taken, and IPv6 alone is not served instead."""
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Exception, match="already in use"):
            await service.Service(Echo(host="::"), port).start()
