"""Chaos: instances are killed and stopped, links are cut, Redis is restarted; the invariants hold all the time.

The short form takes about 20 seconds: ``pytest tests/cluster/test_chaos.py --chaos-seconds 3600`` runs longer. A
failure names its seed; ``--chaos-seed`` repeats the choices, though not their timing.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from ..edge.harness import TIMEOUT, request
from .processes import Instance
from .proxy import Proxy
from .redis_server import RedisServer

LEASE = 1.5
ROOMS = ("r1", "r2")
MAX_ROOM_SIZE = 5
EDITORS = 14


class Unexpected(AssertionError):
    """An invariant does not hold."""


class Actor:
    """An editor that joins, signals, leaves, loses its connection and resumes, wherever an instance takes it.

    Attributes:
        room: where it is, as it knows.
        known: the peers that it knows there.
        quiet: whether it only stays where it is from now on.
    """

    def __init__(self, name: str, rng: random.Random, instances: list[Instance]) -> None:
        self.name = name
        self.room: str | None = None
        self.known: set[str] = set()
        self.quiet = False
        self.seen: Counter[str] = Counter()
        self._rng = rng
        self._instances = instances
        self._token: str | None = None
        self._count = 0
        self._life = 0
        self._numbers = count()
        self._newest: dict[tuple[str, int], int] = {}
        self._wanted = rng.choice(ROOMS)
        self._joining = False
        self._pinged = False
        self._history: deque[str] = deque(maxlen=40)

    def __str__(self) -> str:
        return f"in {self.room} with {sorted(self.known)}; before that: " + "; ".join(self._history)

    async def run(self) -> None:
        """Do something for ever."""
        while True:
            instance = self._rng.choice(self._instances)
            if instance.stopped:
                await asyncio.sleep(0.05)
                continue
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                self._history.append(f"at port {instance.port}")
                async with connect(
                    instance.url, compression=None, open_timeout=2, close_timeout=0.2, ping_interval=None
                ) as socket:
                    try:
                        await self._live(socket)
                    finally:
                        socket.transport.abort()
                        # The library has answered pings, so the server takes all that it has read as received.
                        with suppress(ConnectionClosed):
                            while True:
                                self._take(json.loads(await socket.recv()))
            await asyncio.sleep(self._rng.uniform(0.02, 0.2))

    async def _live(self, socket: ClientConnection) -> None:
        self._pinged = False
        await self._join(socket)
        act_at = 0.0
        loop = asyncio.get_running_loop()
        patience = loop.time() + 4
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.01, 0.08)):
                    self._take(json.loads(await socket.recv()))
                    patience = loop.time() + 4
            if self._joining:
                if loop.time() > patience:
                    return  # its answer is lost with a connection to Redis, or the instance is stopped
                continue
            if loop.time() > patience:
                if self._pinged:
                    return  # the instance is stopped
                await socket.send('{"type": "ping"}')
                self._pinged, patience = True, loop.time() + 4
            if loop.time() < act_at:
                continue
            act_at = loop.time() + self._rng.uniform(0.02, 0.1)
            if self.room is None:
                self._wanted = self._rng.choice(ROOMS)
                await asyncio.sleep(0.05)
                await self._join(socket)
            elif not self.quiet and not await self._act(socket):
                return

    async def _join(self, socket: ClientConnection) -> None:
        fields: dict[str, Any] = {"resumeToken": self._token, "received": self._count} if self._token else {}
        self._joining = True
        message = {"type": "join", "room": self._wanted, "peerId": self.name, "userId": self.name}
        text = json.dumps({"resume": True, "received": 0, **message, **fields})
        self._history.append(f"> {text}")
        await socket.send(text)

    async def _act(self, socket: ClientConnection) -> bool:
        """Do something; return whether the connection is still of use."""
        choice = self._rng.random()
        if choice < 0.75 and self.known:
            for _ in range(self._rng.randrange(1, 5)):
                signal = [self._life, next(self._numbers)]
                to = self._rng.choice(sorted(self.known))
                await socket.send(json.dumps({"type": "signal", "to": to, "signal": signal}))
        elif choice < 0.80:
            await socket.send('{"type": "leave"}')
            self._forget()
            self._wanted = self._rng.choice(ROOMS)
        elif choice < 0.88:
            return False
        return True

    def _take(self, message: dict[str, Any]) -> None:
        """Compare a message with what is known; an invariant that does not hold is a failure."""
        kind = message["type"]
        self._history.append(f"< {json.dumps(message)[:150]}")
        self.seen[kind if kind != "error" else message["code"]] += 1
        self._pinged = False
        if self.room is None and kind in ("peer-joined", "peer-left", "signal"):
            return  # of the room that it has just left
        match kind:
            case "joined":
                peers = {peer["peerId"] for peer in message["peers"]}
                if message.get("resumed"):
                    self._check(peers <= self.known, f"G2: resumed with {peers - self.known}, who were not announced")
                else:
                    self._life += 1
                self.room, self.known, self._token, self._count = message["room"], peers, message["resumeToken"], 0
                self._joining = False
            case "peer-joined":
                self._check(message["peerId"] not in self.known, f"G2: {message['peerId']} announced twice")
                self.known.add(message["peerId"])
                self._count += 1
            case "peer-left":
                self._check(message["peerId"] in self.known, f"G2: {message['peerId']} left twice")
                self.known.discard(message["peerId"])
                self._count += 1
            case "signal":
                self._count += 1
                sender, (life, number) = message["from"], message["signal"]
                self._check(sender in self.known, f"G2: a signal of {sender}, who is not known")
                newest = self._newest.get((sender, life), -1)
                self._check(number > newest, f"G3: signal {number} of {sender} after {newest}")
                self._newest[sender, life] = number
            case "error":
                if self._joining and message["code"] in ("unavailable", "room-full", "peer-id-taken"):
                    self._joining = False
                    if message["code"] != "unavailable":
                        self._forget()
                elif message["code"] == "not-in-room":
                    self._forget()
        self._check(len(self.known) < MAX_ROOM_SIZE, f"G1: {len(self.known) + 1} peers in a room")

    def _forget(self) -> None:
        self.room, self.known, self._token, self._count = None, set(), None, 0

    def _check(self, holds: bool, text: str) -> None:
        if not holds:
            raise Unexpected(f"{self.name}: {text}; {self}")


class World:
    """Redis, proxies, instances, and what happens to them."""

    def __init__(self, rng: random.Random, redis: RedisServer) -> None:
        self.rng = rng
        self.redis = redis
        self.proxies = [Proxy(redis.port) for _ in range(3)]
        self.instances: list[Instance] = []
        self.faults: Counter[str] = Counter()

    def chance(self) -> random.Random:
        """Return choices that depend on the seed."""
        return random.Random(self.rng.random())  # noqa: S311

    async def start(self) -> None:
        """Start everything."""
        self.redis.start()
        for proxy in self.proxies:
            await proxy.start()
            url = f"redis://127.0.0.1:{proxy.port}/0"
            limits = {"RATE_LIMIT": "0", "RESUME_GRACE": "3000", "MAX_ROOM_SIZE": str(MAX_ROOM_SIZE)}
            self.instances.append(Instance(url, LEASE, **limits))
        for instance in self.instances:
            instance.start()
            await instance.listening()

    async def fault(self) -> None:
        """Let one thing go wrong, and end it."""
        kind = self.rng.choice(("kill", "stop", "cut", "cut for long", "reset", "redis", "redis for long"))
        self.faults[kind] += 1
        print("fault", kind)
        at = self.rng.randrange(len(self.instances))
        instance, proxy = self.instances[at], self.proxies[at]
        match kind:
            case "kill":
                instance.kill()
                await asyncio.sleep(self.rng.uniform(0, 2 * LEASE))
                instance.start()
                await instance.listening()
            case "stop":
                instance.stop()
                await asyncio.sleep(self.rng.uniform(0.5, 2.5) * LEASE)
                instance.resume()
            case "cut" | "cut for long":
                proxy.cut()
                await asyncio.sleep(self.rng.uniform(0.1, 0.5) if kind == "cut" else 2 * LEASE)
                assert (await request(instance.port, "GET /health")).status == 200
                proxy.mend()
            case "reset":
                proxy.reset()
            case "redis" | "redis for long":
                self.redis.stop()
                await asyncio.sleep(0.1 if kind == "redis" else 2 * LEASE)
                self.redis.start()

    async def stop(self) -> str:
        """Stop the instances; return what they have logged."""
        loop = asyncio.get_running_loop()
        return "".join([await loop.run_in_executor(None, instance.end) for instance in self.instances])

    async def kill(self) -> None:
        """Leave nothing behind."""
        for instance in self.instances:
            instance.free()
        self.redis.free()
        for proxy in self.proxies:
            await proxy.stop()
        await asyncio.sleep(0.1)  # the transports close themselves in the turns that follow


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world that is not started yet."""
    seed = request.config.getoption("--chaos-seed")
    seed = random.randrange(1 << 32) if seed is None else seed  # noqa: S311
    print(f"--chaos-seed {seed}")
    world = World(
        random.Random(seed),  # noqa: S311
        RedisServer(tmp_path),
    )
    yield world
    await world.kill()


async def test_invariants_hold_under_faults(world: World, request: pytest.FixtureRequest) -> None:
    """No fault breaks an invariant for any editor; when the faults end, all agree about the peers."""
    seconds = request.config.getoption("--chaos-seconds")
    await world.start()
    loop = asyncio.get_running_loop()
    actors = [Actor(f"e{number}", world.chance(), world.instances) for number in range(EDITORS)]
    tasks = [asyncio.create_task(actor.run()) for actor in actors]
    try:
        end = loop.time() + seconds
        # While Redis restarts again and again, nobody gets far enough to signal.
        while loop.time() < end or not any(actor.seen["signal"] for actor in actors):
            await asyncio.sleep(world.rng.uniform(0.2, 1.5))
            _raise(tasks)
            await world.fault()
        for actor in actors:
            actor.quiet = True
        end = loop.time() + 2 * TIMEOUT
        while not _agree(actors):
            _raise(tasks)
            assert loop.time() < end, "\n".join(f"{actor.name}: {actor}" for actor in actors)
            await asyncio.sleep(0.1)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        text = await world.stop()
        print(text)
    seen = sum((actor.seen for actor in actors), Counter[str]())
    print(dict(world.faults), dict(seen))
    assert seen["signal"] > 0
    assert "Traceback" not in text


def _agree(actors: list[Actor]) -> bool:
    """Return whether all are as they should be: each room full or with all who want in, and known by all in it."""
    for room in ROOMS:
        there = {actor.name for actor in actors if actor.room == room}
        if len(there) > MAX_ROOM_SIZE or any(
            actor.known | {actor.name} != there for actor in actors if actor.room == room
        ):
            return False
    return sum(actor.room is not None for actor in actors) == MAX_ROOM_SIZE * len(ROOMS)


def _raise(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
