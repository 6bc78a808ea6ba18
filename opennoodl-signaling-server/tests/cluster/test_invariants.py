"""The invariants of several instances, G1 to G6, each under concurrency. See docs/cluster.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from opennoodl_signaling.cluster import membership

from ..conftest import Enter
from ..editor import Editor, news
from ..test_server_resume import X, cut
from .conftest import Instances
from .redis_server import RedisServer
from .waiting import settle, until


async def test_g1_room_size_holds_at_all_instances(instances: Instances, enter: Enter) -> None:
    """G1: of many that enter a room at three instances at the same time, exactly as many get in as may."""
    servers = await instances(3, max_room_size=7)
    editors = [await enter(servers[number % 3]) for number in range(30)]
    for number, editor in enumerate(editors):
        await editor.send("join", room="r", peerId=f"p{number}", userId=f"u{number}")
    answers = [await editor.receive() for editor in editors]
    outcomes = Counter(answer.get("code", answer["type"]) for answer in answers)
    assert outcomes == {"joined": 7, "room-full": 23}


async def test_g1_one_leaves_and_one_enters(instances: Instances, enter: Enter) -> None:
    """G1: the place of a peer that leaves one instance is free at the other."""
    one, two = await instances(2, max_room_size=1)
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    assert await b.refused("join", room="r", peerId="b", userId="B") == "room-full"
    await a.send("leave")
    await a.quiet()
    await b.join("r", "b")


async def test_g2_each_pair_is_told_once(instances: Instances, enter: Enter) -> None:
    """G2: of each pair exactly one finds the other in `joined`, and the other is told, before any signal."""
    servers = await instances(3)
    editors = {f"p{number}": await enter(servers[number % 3]) for number in range(12)}
    for peer, editor in editors.items():
        await editor.send("join", room="r", peerId=peer, userId=peer)
    seen = await asyncio.gather(*(_meet(peer, editor, set(editors) - {peer}) for peer, editor in editors.items()))
    listed = {peer: found for peer, (found, _) in zip(editors, seen, strict=True)}
    told = {peer: found for peer, (_, found) in zip(editors, seen, strict=True)}
    for one in editors:
        assert not listed[one] & told[one]
        assert listed[one] | told[one] == set(editors) - {one}
        for other in listed[one]:
            assert one in told[other]


async def _meet(peer: str, editor: Editor, others: set[str]) -> tuple[set[str], set[str]]:
    """Return the peers in `joined` and those announced. Signal to each at once, and take the signals of all."""
    listed: set[str] = set()
    told: set[str] = set()
    signals: set[str] = set()
    while signals != others:
        message = await editor.receive()
        match message["type"]:
            case "joined":
                listed = {info["peerId"] for info in message["peers"]}
                for other in listed:
                    await editor.send("signal", to=other, signal=0)
            case "peer-joined":
                told.add(message["peerId"])
                await editor.send("signal", to=message["peerId"], signal=0)
            case "signal":
                assert message["from"] in listed | told
                signals.add(message["from"])
            case _:
                raise AssertionError(message)
    return listed, told


async def test_g3_signals_keep_their_order(instances: Instances, enter: Enter) -> None:
    """G3: signals of a pair arrive in order, once each, in both directions."""
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    for number in range(500):
        await a.send("signal", to="b", signal=number)
        await b.send("signal", to="a", signal=number)
    for editor in (a, b):
        assert [(await editor.expect("signal"))["signal"] for _ in range(500)] == list(range(500))


async def test_g3_sender_of_a_lost_signal_is_told(instances: Instances, enter: Enter) -> None:
    """G3: of the signals to a peer that goes away for good, those that do not arrive are answered with an error."""
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    numbers = count()
    sending = asyncio.create_task(_keep_signaling(a, numbers))
    received = [(await b.expect("signal"))["signal"] for _ in range(20)]
    await b.send("leave")
    refused = []
    while len(refused) < 20:
        message = await a.receive()
        if message["type"] == "error":
            assert message["code"] == "peer-not-found"
            refused.append(message["requestId"])
        else:
            assert message["type"] == "peer-left"
    sending.cancel()
    for _ in range(2):  # the first pong shows that the server has read all signals
        for editor, found in ((a, refused), (b, received)):
            await editor.send("ping")
            while (message := await editor.receive())["type"] != "pong":
                found.append(message["requestId"] if message["type"] == "error" else message["signal"])
        await settle((one, two))
    assert received == sorted(received)
    assert sorted(received + refused) == list(range(next(numbers)))


async def _keep_signaling(editor: Editor, numbers: Iterator[int]) -> None:
    while True:
        number = next(numbers)
        await editor.send("signal", to="b", signal=number, requestId=number)
        await asyncio.sleep(0)


@pytest.mark.parametrize("counting", [True, False], ids=["counting", "not counting"])
async def test_g4_resume_at_another_instance_misses_nothing(instances: Instances, enter: Enter, counting: bool) -> None:
    """G4: a peer that resumes at another instance misses nothing and gets nothing twice; the others see nothing."""
    one, two = await instances(rate_limit=0, byte_rate_limit=0)
    servers = (one, two)
    a = await enter(one)
    await a.join("r", "a")
    x = await enter(two)
    fields: dict[str, Any] = {"received": 0} if counting else {}
    token = (await x.join(**X, resume=True, **fields))["resumeToken"]
    assert await a.expect("peer-joined") == news("x", "X")
    numbers, got, since = count(), list[int](), 0
    for turn in range(6):
        for _ in range(20):
            await a.send("signal", to="x", signal=next(numbers))
        for _ in range(20):
            got.append((await x.expect("signal"))["signal"])
        await cut(x)
        for _ in range(5):
            await a.send("signal", to="x", signal=next(numbers))
        if not counting:  # else what its instance has not written yet would be as good as received
            await settle(servers)
        x = await enter(servers[turn % 2])
        more = {"received": since + 20} if counting else {}
        answer = await x.join(**X, resume=True, resumeToken=token, **more)
        assert (answer["resumed"], answer["peers"]) == (True, [news("a")])
        token, since = answer["resumeToken"], 5
        for _ in range(5):
            got.append((await x.expect("signal"))["signal"])
    assert got == list(range(150))
    await a.quiet()


async def test_g4_half_open_connection_loses_nothing(instances: Instances, enter: Enter) -> None:
    """G4: with its token a peer resumes at once elsewhere, though its former connection seems open; that gets 4409."""
    one, two = await instances()
    a, x = await enter(one), await enter(one)
    await a.join("r", "a")
    token = (await x.join(**X, resume=True, received=0))["resumeToken"]
    await a.expect("peer-joined")
    await a.send("signal", to="x", signal="lost with the connection")
    await x.expect("signal")
    again = await enter(two)
    answer = await again.join(**X, resume=True, resumeToken=token, received=0)
    assert answer["resumed"] is True
    assert (await again.expect("signal"))["signal"] == "lost with the connection"
    assert await x.closed() == 4409
    await a.quiet()


async def test_g5_peers_of_a_crashed_instance_leave(
    instances: Instances, enter: Enter, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    """G5: after the lease of an instance that stopped working, the others are told that its peers have left."""
    monkeypatch.setattr(membership, "LEASE", 1.0)
    monkeypatch.setattr(membership, "TICK", 0.1)  # often, so that a busy machine does not let the other lease expire
    one, two = await instances()
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    app: Any = two.app
    dead = app.membership.instance.encode()
    crash(two)
    assert await a.expect("peer-left") == {"peerId": "b"}
    client = redis.client()
    await until(lambda: [key for key in client.keys("*") if key.endswith((b":b", dead, b":dead"))] == [])
    client.close()


async def test_g5_resumable_peers_of_a_crashed_instance_stay(
    instances: Instances, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: a peer that can resume does so at another instance after its own has crashed, within the grace."""
    monkeypatch.setattr(membership, "LEASE", 1.0)
    monkeypatch.setattr(membership, "TICK", 0.1)  # often, so that a busy machine does not let the other lease expire
    one, two = await instances()
    a, x = await enter(one), await enter(two)
    await a.join("r", "a")
    token = (await x.join(**X, resume=True))["resumeToken"]
    await a.expect("peer-joined")
    crash(two)
    app: Any = one.app
    await until(lambda: app.membership.counts[0] == 1)
    await a.send("signal", to="x", signal="while it is away")
    again = await enter(one)
    assert (await again.join(**X, resumeToken=token))["resumed"] is True
    assert (await again.expect("signal"))["signal"] == "while it is away"
    await a.quiet()


async def test_g6_peer_id_has_one_holder(instances: Instances, enter: Enter) -> None:
    """G6: of many connections that claim one peer id at three instances, one holds it at any time."""
    servers = await instances(3)
    watcher = await enter(servers[0])
    await watcher.join("r", "w")
    editors = [await enter(servers[number % 3]) for number in range(9)]
    for editor in editors:
        await editor.send("join", room="r", peerId="x", userId="X")
    answers = [await editor.receive() for editor in editors]
    outcomes = Counter(answer.get("code", answer["type"]) for answer in answers)
    assert outcomes == {"joined": 1, "peer-id-taken": 8}
    assert await watcher.expect("peer-joined") == news("x", "X")
    await watcher.quiet()


def crash(server: Any) -> None:
    """Stop an instance's work with Redis, as if its process had been killed."""
    member = server.app.membership
    for task in list(member._tasks):
        task.cancel()
    member.link.up = False
    member.link._task.cancel()
