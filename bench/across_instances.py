"""Measures the cost of a receiver at another instance: an open loop between pairs of clients, for sync and signaling.

A sender sends its messages when they are due. A latency is the time from then until the receiver has the message.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .cluster import Usage
from .outcome import quantile
from .pacer import Due, Pacer
from .protocols import STEP_1, UPDATE, frame, varbytes
from .servers import Server
from .updates import TOKENS, token, typed

PATIENCE = 30.0
"""Seconds that a client has to get its first answer, and all messages to arrive."""
WARM = 1.0
"""Seconds of messages that do not count."""
OFFER = "x" * 200
"""The content of a signal beside its token; it has the size of a candidate."""


class Figures(NamedTuple):
    """The results of one measurement.

    Attributes:
        p50, p99: milliseconds until a receiver has a message.
        lag: of the generator, p99 in milliseconds.
        messages: that were sent while CPU was counted.
        cpu: seconds by process.
        lost: messages that did not arrive.
    """

    p50: float
    p99: float
    lag: float
    messages: int
    cpu: dict[str, float]
    lost: int


class FrameClient(WSListener):
    """A client that keeps what it gets, and when.

    Args:
        greeting: the frame that it sends first.
        answer: tells whether a message is the answer to it.
    """

    def __init__(self, greeting: bytes, answer: Callable[[bytes], bool]) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._came = asyncio.Event()
        self._greeting = greeting
        self._answer = answer

    async def has(self, wanted: bytes) -> None:
        """Wait until a message has come."""
        looked = 0
        while not any(wanted in payload for _, payload in self.frames[looked:]):
            looked = len(self.frames)
            self._came.clear()
            await self._came.wait()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self.transport = transport.underlying_transport
        self.transport.write(self._greeting)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keep what came."""
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif self.ready.done():
            self.frames.append((perf_counter(), payload))
            self._came.set()
        elif self._answer(payload):
            self.ready.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Let nobody wait."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the server closed the connection"))


class Pair(NamedTuple):
    """A sender with its messages, which carry the tokens of its number, and the one that receives them."""

    number: int
    sender: FrameClient
    receiver: FrameClient
    messages: Sequence[bytes]


async def _connected(url: str, greeting: bytes, answer: Callable[[bytes], bool]) -> FrameClient:
    """Connect until the answer comes: an instance that has just started refuses clients for a moment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            client = FrameClient(greeting, answer)
            try:
                await ws_connect(lambda client=client: client, url)
                await client.ready
            except (WSError, OSError):
                await asyncio.sleep(0.1)
            else:
                return client


async def editor(server: Server, room: str) -> FrameClient:
    """Open a document."""
    return await _connected(server.url(room), frame(STEP_1), lambda message: message[:2] == b"\x00\x01")


async def peer(server: Server, room: str, name: str) -> FrameClient:
    """Join a room of the signaling server."""
    join = json.dumps({"type": "join", "room": room, "peerId": name, "userId": name}).encode()
    return await _connected(server.url(""), frame(join, binary=False), lambda message: b'"joined"' in message[:20])


class Route(NamedTuple):
    """The instances of a room: the one that the sender is at, the one that receivers are at, and that of the room."""

    sender: Server
    receiver: Server
    owner: Server


async def edits(number: int, route: Route, updates: int, room: str) -> Pair:
    """Return a writer and a reader of a document."""
    first = await editor(route.owner, room)
    sender = await editor(route.sender, room)
    receiver = await editor(route.receiver, room)
    first.transport.abort()
    messages = [frame(UPDATE + varbytes(update)) for update in typed(number, updates)]
    return Pair(number, sender, receiver, messages)


async def signals(number: int, sender_at: Server, receiver_at: Server, count: int, room: str) -> Pair:
    """Return a peer that signals another one."""
    sender = await peer(sender_at, room, "sender")
    receiver = await peer(receiver_at, room, "receiver")
    messages = [
        frame(json.dumps({"type": "signal", "to": "receiver", "signal": text}).encode(), binary=False)
        for text in (token(number, one).decode() + OFFER for one in range(count))
    ]
    return Pair(number, sender, receiver, messages)


async def open_loop(pairs: Sequence[Pair], rate: float, usage: Callable[[], Usage]) -> Figures:
    """Send all messages, `rate` a second of each sender.

    Args:
        pairs: that are connected.
        rate: messages a second.
        usage: begins to count CPU; called when the warm-up is over.
    """
    warm, each = round(rate * WARM), len(pairs[0].messages)
    phases = {pair.number: index / len(pairs) / rate for index, pair in enumerate(pairs)}

    def schedule(numbers: range) -> list[Due]:
        """Return when these messages of all senders are due, from the first of them on."""
        due = [
            Due(
                phases[pair.number] + (number - numbers.start) / rate,
                pair.sender.transport.write,
                pair.messages[number],
            )
            for pair in pairs
            for number in numbers
        ]
        return sorted(due, key=lambda one: one.at)

    await Pacer(schedule(range(warm))).run()
    counted = usage()
    pacer = Pacer(schedule(range(warm, each)))
    await pacer.run()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for pair in pairs:
                await pair.receiver.has(token(pair.number, each - 1))
    cpu = counted.since()
    latencies, lost = [], 0
    for pair in pairs:
        seen: dict[bytes, float] = {}
        for at, payload in pair.receiver.frames:
            for found in TOKENS.findall(payload):
                seen.setdefault(found, at)
        for number in range(warm, each):
            came = seen.get(token(pair.number, number))
            if came is None:
                lost += 1
            else:
                latencies.append(came - pacer.start - phases[pair.number] - (number - warm) / rate)
        pair.receiver.transport.abort()
        pair.sender.transport.abort()
    latencies.sort()
    return Figures(
        1000 * quantile(latencies, 0.5),
        1000 * quantile(latencies, 0.99),
        1000 * quantile(sorted(pacer.lags), 0.99),
        len(pairs) * (each - warm),
        cpu,
        lost,
    )
