"""Calls: peers that find each other through a signaling server, in rooms of the editor's or in y-webrtc's topics."""

import asyncio
import random
import re
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .outcome import Metric, Outcome, measured
from .protocols import frame
from .servers import Server

METRICS = (
    Metric("deliveries", "deliveries/s", more=True),
    Metric("cpu", "server CPU µs a delivery", digits=1),
    Metric("server_cpu", "server CPU %", more=None),
    Metric("generator_cpu", "generator CPU %", more=None),
)
CROWD_METRICS = (
    Metric("seconds", "until all are in s", digits=2),
    Metric("rss", "server RSS MiB"),
    Metric("server_cpu", "server CPU %", more=None),
    Metric("generator_cpu", "generator CPU %", more=None),
)
TOGETHER = 16
"""Frames that are handed to a transport at once."""
WRITE_BUFFER = 65_536
SAMPLES = 6
"""Connections of which everything is kept, to see afterwards that nothing is missing."""
PATIENCE = 30.0
ATTEMPTS = 20
END = b"<end>"
TOKENS = re.compile(rb"<(\d+\.\d+)>")
SDP, CANDIDATE = 1500, 200
"""Bytes of an offer or an answer, and of a candidate; four candidates come with each."""


class Load(NamedTuple):
    """In each of `groups`, `members` send `messages` each."""

    groups: int
    members: int
    messages: int


class Caller(WSListener):
    """One connection.

    Attributes:
        frames: what has come, if `keep` is set.
        ends: how many last messages have come.
        answered: the first message, when it has come.
    """

    def __init__(self, crowd: "Crowd", keep: bool = False) -> None:
        self.keep = keep
        self.frames: list[bytes] = []
        self.ends = 0
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport
        self._crowd = crowd

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready to write."""
        self.transport = transport.underlying_transport
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Look for the end of what others send, and keep samples: the clock runs."""
        payload = frame.get_payload_as_bytes()
        if END in payload:
            self.ends += 1
            self._crowd.ended()
        if self.keep:
            self.frames.append(payload)
        if not self.answered.done():
            self.answered.set_result(payload)
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Let nobody wait, and tell the crowd."""
        self.writable.set()
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("the server hung up"))
        self._crowd.hung_up()

    def close(self) -> None:
        """Say goodbye, as a browser does that leaves the page."""
        self.transport.write(b"\x88\x82\x00\x00\x00\x00\x03\xe9")

    def pause_writing(self) -> None:
        """Stop to write."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Go on with writing."""
        self.writable.set()


class Crowd:
    """All connections of one measurement."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.callers: list[Caller] = []
        self.hang_ups = 0
        self.leaving = False
        self._missing = 0
        self._finished: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def enter(self, *greeting: dict[str, Any], keep: bool = False) -> Caller:
        """Connect, say the greeting, and wait for the first answer to it."""
        caller = Caller(self, keep)
        await ws_connect(lambda: caller, self.server.url(""), websocket_handshake_timeout=PATIENCE)
        for message in greeting:
            caller.transport.write(text(message))
        async with asyncio.timeout(PATIENCE):
            await caller.answered
        self.callers.append(caller)
        return caller

    def expect(self, ends: int) -> None:
        """Begin to wait for so many last messages."""
        self._missing = ends
        self._finished = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        """Count a last message."""
        self._missing -= 1
        if self._missing == 0:
            self._finished.set_result(perf_counter())

    def hung_up(self) -> None:
        """Count a connection that the server has ended."""
        self.hang_ups += not self.leaving

    async def finish(self, limit: float) -> float | None:
        """Return when the last of the last messages came, or None if it has not within `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                return await self._finished
        except TimeoutError:
            return None

    def leave(self) -> None:
        """Cut all connections."""
        self.leaving = True
        for caller in self.callers:
            caller.transport.abort()


def text(message: dict[str, Any]) -> bytes:
    """Return a message as a frame."""
    return frame(msgspec.json.encode(message), binary=False)


def _token(member: int, number: int, last: int) -> str:
    return f"<{member}.{number}>" + (END.decode() if number == last else "")


async def publish(server: Server, load: Load, limit: float) -> Outcome:
    """Let all members of topics publish; each message comes to all of its topic, its sender too."""
    crowd = Crowd(server)
    loads: list[tuple[Caller, Sequence[bytes]]] = []
    for group in range(load.groups):
        topic = f"topic-{group}"
        for member in range(load.members):
            greeting = {"type": "subscribe", "topics": [topic]}, {"type": "ping"}
            caller = await crowd.enter(*greeting, keep=len(crowd.callers) < SAMPLES)
            messages = [
                text({"type": "publish", "topic": topic, "data": _token(member, number, load.messages - 1) + "x" * 300})
                for number in range(load.messages)
            ]
            loads.append((caller, messages))
    crowd.expect(load.groups * load.members**2)
    tokens = {b"%d.%d" % (member, number) for member in range(load.members) for number in range(load.messages)}
    return await _relay(crowd, loads, [tokens] * SAMPLES, load.members, limit)


async def signal(server: Server, load: Load, limit: float, beside: int = 0) -> Outcome:
    """Let both peers of each room signal the other, with `beside` other rooms of two in which nothing happens."""
    crowd = Crowd(server)
    for number in range(2 * beside):
        await crowd.enter(join(f"beside-{number // 2}", f"{number}"))
    first = len(crowd.callers)
    loads: list[tuple[Caller, Sequence[bytes]]] = []
    for group in range(load.groups):
        for member in range(2):
            greeting = join(f"room-{group}", f"{group}.{member}")
            caller = await crowd.enter(greeting, keep=len(crowd.callers) - first < SAMPLES)
            loads.append((caller, [_signal(group, member, number, load) for number in range(load.messages)]))
    crowd.expect(load.groups * 2)
    expected = [{b"%d.%d" % (1 - sample % 2, number) for number in range(load.messages)} for sample in range(SAMPLES)]
    return await _relay(crowd, loads, expected, 1, limit)


def join(room: str, peer: str) -> dict[str, Any]:
    """Return the message with which a peer enters a room."""
    return {"type": "join", "room": room, "peerId": peer, "userId": f"user {peer}", "metadata": {"name": peer}}


def _signal(group: int, member: int, number: int, load: Load) -> bytes:
    size = SDP if number % 5 == 0 else CANDIDATE
    content = {"type": "offer", "sdp": _token(member, number, load.messages - 1) + "x" * size}
    return text({"type": "signal", "to": f"{group}.{1 - member}", "signal": content})


async def _relay(
    crowd: Crowd,
    loads: Sequence[tuple[Caller, Sequence[bytes]]],
    expected: Sequence[set[bytes]],
    receivers: int,
    limit: float,
) -> Outcome:
    """Let everybody send all it has as fast as its transport takes it, until everybody has everything."""
    outcome = Outcome()
    chunks = [
        (caller, [b"".join(frames[at : at + TOGETHER]) for at in range(0, len(frames), TOGETHER)])
        for caller, frames in loads
    ]
    with measured(crowd.server) as usage:
        started = perf_counter()
        tasks = [asyncio.create_task(_write(caller, pieces)) for caller, pieces in chunks]
        finished = await crowd.finish(limit)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    usage.record(outcome)
    samples = [caller for caller in crowd.callers if caller.keep]
    found = wanted = 0
    for caller, tokens in zip(samples, expected, strict=False):
        found += len({token for payload in caller.frames for token in TOKENS.findall(payload)} & tokens)
        wanted += len(tokens)
    share = found / wanted
    deliveries = sum(len(frames) for _, frames in loads) * receivers * share
    outcome.values["arrived"] = share
    outcome.values["deliveries"] = deliveries / ((finished or started + limit) - started)
    outcome.values["cpu"] = 1e6 * usage.server / deliveries
    if share < 1:
        outcome.notes.append(f"{'LOST' if finished else 'too slow:'} {1 - share:.1%} had not come")
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome


async def _write(caller: Caller, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        await caller.writable.wait()
        caller.transport.write(chunk)
        await asyncio.sleep(0)  # everybody else's turn


async def crowd(server: Server, *, connections: int, rate: float) -> Outcome:
    """Let connections come at a rate, each into a room of ten, and stay."""
    everybody = Crowd(server)
    outcome = Outcome()
    with measured(server) as usage:
        began = perf_counter()
        late = await _arrive(everybody, connections, [number / rate for number in range(connections)])
    usage.record(outcome)
    outcome.values["seconds"] = perf_counter() - began
    await asyncio.sleep(1)
    outcome.values["rss"] = server.memory().now
    _count(everybody, connections, late, outcome)
    everybody.leave()
    return outcome


async def herd(server: Server, *, connections: int, within: float) -> Outcome:
    """Restart a server that has many connections; all of them come back at random moments within so many seconds."""
    before = Crowd(server)
    await _arrive(before, connections, [number / 1000 for number in range(connections)])
    before.leaving = True
    await server.restart()
    after = Crowd(server)
    outcome = Outcome()
    dice = random.Random(1)  # noqa: S311
    with measured(server) as usage:
        began = perf_counter()
        late = await _arrive(after, connections, sorted(dice.uniform(0, within) for _ in range(connections)))
    usage.record(outcome)
    outcome.values["seconds"] = perf_counter() - began
    outcome.values["rss"] = server.memory().now
    _count(after, connections, late, outcome)
    after.leave()
    return outcome


def _count(everybody: Crowd, connections: int, again: int, outcome: Outcome) -> None:
    outcome.values["arrived"] = len(everybody.callers) / connections
    if len(everybody.callers) < connections:
        outcome.notes.append(f"{connections - len(everybody.callers)} were left out")
    if again:
        outcome.notes.append(f"{again} attempts were refused and made again")
    outcome.note_hang_ups(everybody.hang_ups)


async def _arrive(everybody: Crowd, connections: int, moments: Sequence[float]) -> int:
    """Let everybody connect and join at its moment; whoever is refused tries again. Return how often that was."""
    start = asyncio.get_running_loop().time()
    refused = 0

    async def come(number: int) -> None:
        nonlocal refused
        await asyncio.sleep(start + moments[number] - asyncio.get_running_loop().time())
        for attempt in range(ATTEMPTS):
            try:
                await everybody.enter(join(f"room-{number // 10}", str(number)))
            except (OSError, WSError, TimeoutError):
                refused += 1
                await asyncio.sleep(0.1 * (attempt + 1))
            else:
                return

    async with asyncio.TaskGroup() as tasks:
        for number in range(connections):
            tasks.create_task(come(number))
    return refused
