"""Data in Redis, and calls that wait for Redis, have bounds."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from opennoodl_signaling.cluster import script_queue, scripts
from opennoodl_signaling.messages import Signal

from ..conftest import Enter
from ..test_server_resume import X, cut
from .conftest import Instances
from .redis_server import RedisServer
from .waiting import settle, until

BOX = "opennoodl:signaling:box:1:r:x"


async def test_mailbox_of_an_absent_peer_is_bounded(instances: Instances, enter: Enter, redis: RedisServer) -> None:
    """A signal to an absent peer whose mailbox is full gets an error."""
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    a, x = await enter(one), await enter(two)
    await a.join("r", "a")
    await x.join(**X, resume=True)
    await a.expect("peer-joined")
    await cut(x)
    await settle((one, two))
    for number in range(257):
        await a.send("signal", to="x", signal=number, requestId=number)
    assert (await a.expect("error"))["requestId"] == 256
    client = redis.client()
    assert client.llen(BOX) == 256
    client.close()


async def test_mailbox_of_a_connected_peer_is_bounded(instances: Instances, enter: Enter, redis: RedisServer) -> None:
    """The mailbox of a connected peer keeps the newest messages, in number and in bytes; leaving empties it."""
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    a, x = await enter(one), await enter(two)
    await a.join("r", "a")
    await x.join(**X, resume=True, received=0)
    await a.expect("peer-joined")
    client = redis.client()
    for size, number, most in ((1, 300, 256), (60_000, 6, 4)):
        for _ in range(number):
            await a.send("signal", to="x", signal="x" * size)
        for _ in range(number):
            await x.expect("signal")
        assert client.llen(BOX) == most
    assert 4 * 60_000 < int(client.get("opennoodl:signaling:bytes")) < 262_144
    await x.send("leave")
    await a.expect("peer-left")
    assert int(client.get("opennoodl:signaling:bytes")) == 0
    client.close()


@pytest.mark.parametrize(("bound", "value"), [("MAX_QUEUED", 2), ("MAX_QUEUED_BYTES", 200)])
async def test_waiting_scripts_are_bounded(
    instances: Instances, enter: Enter, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """More scripts or bytes than may wait are refused, and the server continues."""
    (server,) = await instances(1)
    a = await enter(server)
    await a.join("r", "a")
    await settle((server,))  # the `joined` can arrive before the answer with which the server knows the room
    app: Any = server.app
    await until(lambda: not app.membership.link._queue)  # such as the renewal of the lease
    monkeypatch.setattr(script_queue, bound, value)
    for _ in range(3):
        app.relay.signal(next(iter(app.members.connected.values())), Signal(to="a", signal=Raw(b"1")))
    for _ in range(3):
        assert (await a.expect("error"))["code"] == "unavailable"


@pytest.mark.parametrize(
    "bounds", [{"CROWDED": 100, "MAX_QUEUED": 200}, {"CROWDED_BYTES": 10_000, "MAX_QUEUED_BYTES": 20_000}]
)
async def test_clients_wait_while_redis_has_too_much_to_do(
    instances: Instances, enter: Enter, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int]
) -> None:
    """While Redis does not keep up, clients that signal are not read from, and no signal is refused."""
    for name, value in bounds.items():
        monkeypatch.setattr(script_queue, name, value)
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    client = redis.client()
    client.execute_command("CLIENT", "PAUSE", 500)  # it answers soon enough to be kept
    client.close()
    for number in range(1000):
        await a.send("signal", to="b", signal=number)
    assert [(await b.expect("signal"))["signal"] for _ in range(1000)] == [*range(1000)]
    app: Any = one.app
    assert app.membership.link.connects == 1


@pytest.mark.parametrize("size", [10, 5000])
async def test_stream_that_nobody_reads_is_bounded(instances: Instances, redis: RedisServer, size: int) -> None:
    """The stream of an instance that does not read it keeps the newest entries, in number and in bytes."""
    (server,) = await instances(1)
    app: Any = server.app
    client = redis.client()
    client.zadd("opennoodl:signaling:instances", {"other": 1e15})
    small = scripts.APPEND_ENTRY.text.replace("100000, 268435456", "1000, 100000")
    assert small != scripts.APPEND_ENTRY.text
    add = client.register_script(small)
    for _ in range(1500):
        add(args=[app.membership.instance, client.get("opennoodl:signaling:generation"), "other", "x" * size])
    assert min(1000, 100_000 // size) <= client.xlen("opennoodl:signaling:stream:other") <= min(1100, 100_000 // size)
    client.close()
