"""Messages of real clients, changed at random: the servers run on, and nobody is sent what they cannot read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from attacks.honest_clients import PAIRS
from attacks.raw_connection import Target
from harness import Client, Server, StartClient, StartServer
from mutations import corpus
from mutations.attacker import Attacker
from mutations.recording import BEN, RECORD, ROOM

QUICK = {"signaling": 10_000, "notification": 10_000, "sync": 1500}
"""Messages, unless there are to be more; the sync server closes for nearly each, and a handshake costs more than it."""
UNBOUND = (
    *(
        "RATE_LIMIT",
        "BYTE_RATE_LIMIT",
        "HANDSHAKE_RATE_LIMIT",
        "MAX_CONNECTIONS_PER_IP",
        "INVITES_PER_HOUR",
        "SENDS_PER_HOUR",
        "SEND_BYTES_PER_HOUR",
        "MAX_STORED_SIZE",
    ),
    *("SLOW_CLIENT_BUFFER", "MAX_CONNECTIONS_PER_USER", "ROOM_IDLE_TIMEOUT"),
)
ATTACKERS = 8
ROOMS, SHARE, ROUNDS = 4, 50, 4
"""Rooms at once, messages for each in a round, and rounds until other rooms are taken."""
HELLO = {
    "signaling": [
        {"type": "join", "room": ROOM, "peerId": "listener", "userId": "listener"},
        {"type": "subscribe", "topics": [ROOM]},
    ],
    "notification": [{"type": "authenticate", "userId": BEN}],
}
"""The messages with which a client gets everything that the recorded clients send each other."""


@dataclass
class Fixtures:
    """The fixtures of a test.

    Attributes:
        server: starts servers.
        client: starts clients.
        dice: what is decided with.
        asked: how many messages are to be sent, if not as many as are quick.
        record: whether is recorded anew what is changed.
    """

    server: StartServer
    client: StartClient
    dice: random.Random
    asked: int | None
    record: bool

    async def start(self, kind: str) -> tuple[Server, list[bytes], int]:
        """Start a server without bounds; return it, what its clients send, and how many messages it is to be sent."""
        server = await self.server(kind, **dict.fromkeys(UNBOUND, 0))
        if self.record:
            async with corpus.recorder(server.url) as recorder:
                await RECORD[kind](self.client, recorder.url)
            corpus.write(kind, recorder.messages)
        return server, corpus.read(kind), self.asked or QUICK[kind]


@pytest.fixture
def fixtures(request: pytest.FixtureRequest, server: StartServer, client: StartClient, dice: random.Random) -> Fixtures:
    """Return what a test of mutations needs."""
    return Fixtures(
        server, client, dice, request.config.getoption("--mutations"), bool(request.config.getoption("--record"))
    )


@pytest.mark.parametrize("kind", list(HELLO))
async def test_mutated_json_disturbs_no_honest_client(kind: str, fixtures: Fixtures) -> None:
    """Honest clients go on working; a JavaScript client can read all that comes of it, also after a restart."""
    started, recorded, count = await fixtures.start(kind)
    pair = await PAIRS[kind].open(started.port)
    pair.work()
    listener = await fixtures.client("listener")
    await listener.call("open", name="before", url=started.url, hello=HELLO[kind])
    target = Target(kind, started.port, "127.0.0.66")
    attackers = [Attacker(target, "", fixtures.dice, recorded) for _ in range(ATTACKERS)]
    await asyncio.gather(*(attacker.attack(count // ATTACKERS) for attacker in attackers))
    await pair.more(3)
    await pair.close()
    heard = await listener.call("heard", name="before")
    assert heard["count"] > 100
    assert (heard["fault"], heard["closed"]) == (None, None)
    assert not started.complaints
    for attacker in attackers:
        await attacker.leave()
    await listener.call("close", name="before")
    await started.restart()
    await listener.call("open", name="after", url=started.url, hello=HELLO[kind])
    pair = await PAIRS[kind].open(started.port)
    await pair.trip()
    await pair.close()
    heard = await listener.call("heard", name="after")
    assert heard["count"] > 0
    assert (heard["fault"], heard["closed"]) == (None, None)
    print(
        sum(attacker.sent for attacker in attackers),
        "messages,",
        sum(attacker.closed for attacker in attackers),
        "connections were closed",
    )


class Rooms:
    """Rooms of the sync server, in each of which an editor with Yjs sees what comes.

    Attributes:
        disputed: in how many something came of which Yjs makes different things, depending on what came before.
    """

    def __init__(self, server: Server, editors: Client, names: list[str]) -> None:
        self._url = server.url
        self._editors = editors
        self._names = names
        self.disputed = 0

    async def each(self, act: Callable[[str], Awaitable[object]]) -> None:
        """Do something in all rooms at once."""
        await asyncio.gather(*(act(name) for name in self._names))

    async def join(self, room: str) -> None:
        """Let an editor in."""
        await self._editors.call("join", url=self._url, room=room)

    async def edit(self, room: str) -> None:
        """Let somebody else edit; the editor has that, and neither has anything to complain about."""
        assert await self._editors.call("edit", url=self._url, room=room) is None
        assert await self._editors.call("fault", room=room) is None

    async def end(self, room: str) -> None:
        """Let the editor go: the room leaves memory; who comes then has what the editor had."""
        await self._editors.call("leave", room=room)
        await self.compare(room)

    async def compare(self, room: str) -> None:
        """Compare what somebody has who comes now with what the editor had who left."""
        found = await self._editors.call("compare", url=self._url, room=room)
        assert found["fault"] is None
        self.disputed += found["disputed"]

    async def forget(self) -> None:
        """Forget what those had who left."""
        for room in self._names:
            await self._editors.call("forget", room=room)


async def test_mutated_updates_can_be_applied_or_are_refused(fixtures: Fixtures) -> None:
    """Yjs can apply all that comes of it, live and later: what it cannot decode is neither passed on nor stored."""
    started, recorded, count = await fixtures.start("sync")
    editors = await fixtures.client("observers")
    target = Target("sync", started.port, "127.0.0.66")
    sent = closed = disputed = generation = 0
    former: list[str] = []
    while sent < count:
        names = [f"room-{generation}-{number}" for number in range(ROOMS)]
        rooms = Rooms(started, editors, names)
        attackers = [Attacker(target, name, fixtures.dice, recorded) for name in names]
        try:
            await rooms.each(rooms.join)
            # Half of what was recorded first, so that what is changed meets what it was made for.
            await asyncio.gather(*(attacker.send(recorded[: len(recorded) // 2]) for attacker in attackers))
            for _ in range(ROUNDS):
                await asyncio.gather(*(attacker.attack(SHARE) for attacker in attackers))
                await rooms.each(rooms.edit)
            await asyncio.gather(*(attacker.leave() for attacker in attackers))
            await rooms.each(rooms.end)
        except AssertionError as error:
            told = [
                f"{name}: {[message.hex() for message in attacker.last]}"
                for name, attacker in zip(names, attackers, strict=True)
            ]
            raise AssertionError("\n".join([str(error), *told])) from error
        assert not started.complaints
        sent += sum(attacker.sent for attacker in attackers)
        closed += sum(attacker.closed for attacker in attackers)
        disputed += rooms.disputed
        generation += 1
        if generation > 1:
            await Rooms(started, editors, former).forget()
        former = names
    assert closed
    assert disputed < 4 + generation * ROOMS / 5  # a few are by chance
    await started.restart()
    await rooms.each(rooms.compare)
    assert not started.complaints
    print(f"{sent} messages, {closed} connections were closed, {disputed} of {generation * ROOMS} rooms disputed")
