"""Pending connections are bounded in number, and honest clients get in all the same."""

from __future__ import annotations

from typing import Any

import pytest

from ..certificates import RawTls
from ..conftest import Connect, OpenRaw, Serve
from ..harness import pending


class Client:
    """A pending connection that notes that it was cut."""

    cut = False

    def abort(self, refusal: str) -> None:
        self.cut = refusal == "pending-full"


def test_oldest_pending_connection_is_cut_first() -> None:
    """When there are too many, the oldest is cut."""
    few = pending.Pending(2)
    clients = [Client() for _ in range(4)]
    for client in clients:
        few.add(client)
    assert [client.cut for client in clients] == [True, True, False, False]


def test_finished_handshake_makes_room_for_another() -> None:
    """A connection that is no longer pending is not cut, and makes room for another one."""
    few = pending.Pending(2)
    clients = [Client() for _ in range(3)]
    for client in clients:
        few.add(client)
        few.remove(client)
        few.remove(client)
    assert not any(client.cut for client in clients)


def test_bound_of_zero_is_no_bound() -> None:
    """A bound of 0 is none."""
    many = pending.Pending(0)
    clients = [Client() for _ in range(1000)]
    for client in clients:
        many.add(client)
    assert not any(client.cut for client in clients)


async def silent(_: Any) -> None:
    """Say nothing."""


async def half_a_request(client: Any) -> None:
    """Stop in the middle of the request."""
    await client.send(b"GET / HTTP/1.1\r\n")


async def half_of_tls(client: Any) -> None:
    """Stop before the end of the TLS handshake."""
    await client.send_plain(client.hello())


@pytest.mark.parametrize(
    ("wire", "stop"),
    [("tcp", silent), ("tcp", half_a_request), ("tls", silent), ("tls", half_a_request), ("tls", half_of_tls)],
    indirect=["wire"],
)
async def test_crowd_of_unfinished_handshakes_is_bounded(
    serve: Serve, raw: OpenRaw, client: Connect, stop: Any
) -> None:
    """A crowd that does not finish costs as much as there may be connections, and honest clients pass through it."""
    running = await serve(max_connections=5)
    crowd = []
    for number in range(20):
        crowd.append(await raw(running, handshake=False))
        await stop(crowd[-1])
        if not number % 5:
            honest = await client(running)
            await honest.send("here")
            assert await honest.recv() == "here"
            await honest.close()
    for stranger in crowd[:10]:
        if isinstance(stranger, RawTls):
            while await stranger.feed():
                pass
        else:
            assert await stranger.rest() == b""
    assert len(running.connections) <= 6
    assert running.app.metrics.total_connections == 4
