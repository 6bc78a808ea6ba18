"""The people of a load test: each has a connection to each server, moves a cursor, types, signals and notifies."""

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from ..protocols import Plain, frame
from ..signaling_load import CANDIDATE, SDP, join, text
from ..updates import CURSORS, FIRST_CLIENT, TOKENS, moves, typed
from .deployment import ROOMS, Endpoint, Tokens
from .figures import Figures

ROOM = 5
"""People in a room."""
SPELL = 20.0
"""Seconds of which a person works the first half, and reads in the second."""
MOVES = 10
"""Cursor movements a second, of a person who works."""
EDITS = 2
"""Edits a second, of a person who works."""
SIGNAL_EVERY = 60.0
"""Seconds between two offers of one person, after those to everybody in the room at the beginning."""
NOTIFY_EVERY = 120.0
"""Seconds between two notifications of one person."""
CANDIDATES = 4
"""ICE candidates with each offer."""
PATIENCE = 30.0
"""Seconds that a server has to answer at the beginning."""

Json = dict[str, Any]
WIRE = Plain()


class Line(WSListener):
    """One connection.

    Args:
        name: of the server.
        receive: gets each message.
        lost: gets the close code, 1006 without one, when the connection has ended.
    """

    def __init__(self, name: str, receive: Callable[[bytes], None], lost: Callable[[str, int], None]) -> None:
        self.transport: asyncio.Transport
        self._name = name
        self._receive = receive
        self._lost = lost
        self._code = 1006

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready to write."""
        self.transport = transport.underlying_transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a message on, or take note of a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            self._code = frame.get_close_code().value
            transport.disconnect()
        else:
            self._receive(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the person."""
        self._lost(self._name, self._code)


class Person:
    """One person.

    Args:
        number: among all people.
        figures: take what this person sees.
        base: the Yjs client ids of this load test begin here, so that no other one has them.
        seconds: for which the person works.

    Attributes:
        mates: the people of the room, this one too, in the order of their places.
        connected: whether this person has all three connections.
        moved: when each cursor movement was sent.
        edited: when each edit was sent.
        notified: when each notification to this person was sent that has not come yet, by its key.
    """

    def __init__(self, number: int, figures: Figures, base: int, seconds: float) -> None:
        self.number = number
        self.name = f"{ROOMS}{number}"
        self.room = f"{ROOMS}{number // ROOM}"
        self.mates: Sequence[Person] = ()
        self.connected = False
        self.moved: list[float] = []
        self.edited: list[float] = []
        self.notified: dict[str, float] = {}
        self._place = number % ROOM
        self._peer = f"{number}-{base}"
        self._figures = figures
        self._offered: dict[str, float] = {}
        self._seconds = seconds
        self._dice = random.Random(number)  # noqa: S311
        self._moves = moves(self._place, int(seconds * MOVES) + 1, base + self._place)
        self._edits = typed(self._place, int(seconds * EDITS) + 1, base + self._place)
        self._seen = [bytearray(len(self._edits)) for _ in range(ROOM)]
        self._latest = [-1] * ROOM
        self._lines: list[Line] = []
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._leaving = False

    # Coming and going

    async def enter(self, servers: Sequence[Endpoint], tokens: Tokens) -> None:
        """Open the three connections, as an editor does that opens a project."""
        signaling, sync, notification = servers
        began = perf_counter()
        headers = tokens.of(self.name)
        try:
            await self._open(signaling, "", self._signaling, headers)
            self._signal(join(self.room, self._peer) | {"userId": self.name})
            joined = await self._answer("joined")
            await self._open(sync, f"/{self.room}", self._sync, headers)
            self._lines[1].transport.write(b"".join(frame(one) for one in WIRE.greeting(self.room)))
            await self._answer("step 2")
            await self._open(notification, "", self._notification, headers)
            self._notify({"type": "authenticate", "userId": self.name})
            await self._answer("authenticated")
        except (WSError, OSError, TimeoutError) as error:
            response = getattr(error, "response", None)
            reason = f"{response.status.value} {response.status.phrase}" if response else str(error) or "no answer"
            self._figures.refused[f"a connection was refused: {reason}"] += 1
            return
        self.connected = True
        self._figures.waits["connection"].append(perf_counter() - began)
        for peer in joined["peers"]:
            self._offer(peer["peerId"])

    async def leave(self) -> None:
        """Delete what is in the inbox, and close the connections."""
        if self.connected:
            self._notify({"type": "delete-all"})
            try:
                await self._answer("notifications-cleared")
            except (TimeoutError, OSError):
                self._figures.refused[f"the inbox of {self.name} was not deleted"] += 1
        self._leaving = True
        for line in self._lines:
            line.transport.abort()

    def count_lost(self) -> None:
        """Add to the figures what has not come to this person."""
        self._figures.lost.update(self.missing())

    def missing(self) -> Counter[str]:
        """Return how much has not come to this person, by the name of a kind; what is complete is left out."""
        edits = sum(self._seen[mate._place].count(0, 0, len(mate.edited)) for mate in self.mates if mate is not self)
        return +Counter(edit=edits, signal=len(self._offered), notification=len(self.notified))

    # Work

    async def work(self, start: float) -> None:
        """Do what is due at its time, until the seconds are over or a connection is lost."""
        for at, do in heapq.merge(
            self._bursts(MOVES, self._move),
            self._bursts(EDITS, self._edit),
            self._now_and_then(SIGNAL_EVERY, self._offer_somebody),
            self._now_and_then(NOTIFY_EVERY, self._mention),
            key=lambda due: due[0],
        ):
            await asyncio.sleep(max(0.0, start + at - perf_counter()))
            if any(line.transport.is_closing() for line in self._lines):
                return
            self._figures.lags.append(perf_counter() - start - at)
            do()

    def _bursts(self, rate: int, do: Callable[[], None]) -> Iterator[tuple[float, Callable[[], None]]]:
        spell = min(SPELL, self._seconds)
        shift = random.Random(self.number).uniform(0, spell)  # noqa: S311  # the same for cursor and edits
        phase = self._dice.uniform(0, 1 / rate)
        for number in range(int(self._seconds * rate)):
            at = phase + number / rate
            if at < self._seconds and (at + shift) % spell < spell / 2:
                yield at, do

    def _now_and_then(self, every: float, do: Callable[[], None]) -> Iterator[tuple[float, Callable[[], None]]]:
        at = self._dice.uniform(0, min(every, self._seconds))
        while at < self._seconds:
            yield at, do
            at += every

    def _move(self) -> None:
        self._lines[1].transport.write(frame(WIRE.awareness(self.room, self._moves[len(self.moved)])))
        self.moved.append(perf_counter())

    def _edit(self) -> None:
        self._lines[1].transport.write(frame(WIRE.update(self.room, self._edits[len(self.edited)])))
        self.edited.append(perf_counter())

    def _somebody(self) -> "Person | None":
        others = [mate for mate in self.mates if mate is not self and mate.connected]
        return self._dice.choice(others) if others else None

    def _offer_somebody(self) -> None:
        mate = self._somebody()
        if mate is not None:
            self._offer(mate._peer)

    def _offer(self, peer: str) -> None:
        """Send an offer and candidates, as WebRTC does."""
        key = f"{self._peer} {self._dice.random()}"
        self._offered[key] = perf_counter()
        self._signal({"type": "signal", "to": peer, "signal": {"type": "offer", "key": key, "sdp": "x" * SDP}})
        for _ in range(CANDIDATES):
            self._signal({"type": "signal", "to": peer, "signal": {"candidate": "x" * CANDIDATE}})

    def _mention(self) -> None:
        mate = self._somebody()
        if mate is not None:
            key = f"{self._peer} {self._dice.random()}"
            mate.notified[key] = perf_counter()
            data = {"key": key, "message": "Come and look at this"}
            self._notify({"type": "mention", "targetUserId": mate.name, "data": data, "requestId": [mate.number, key]})

    # What comes

    def _sync(self, payload: bytes) -> None:
        now = perf_counter()
        if "step 2" in self._waiting and WIRE.is_step_2(payload):
            self._done("step 2", {})
            return
        for found in TOKENS.findall(payload):
            writer, number = int(found[1:3]), int(found[4:])
            sent = self.mates[writer].edited if writer < len(self.mates) else []
            if number < len(sent) and not self._seen[writer][number]:
                self._seen[writer][number] = 1
                self._figures.waits["edit"].append(now - sent[number])
        for found in CURSORS.findall(payload):
            writer, number = int(found[1:3]), int(found[4:])
            sent = self.mates[writer].moved if writer < len(self.mates) else []
            if self._latest[writer] < number < len(sent):
                self._latest[writer] = number
                self._figures.waits["cursor"].append(now - sent[number])

    def _signaling(self, payload: bytes) -> None:
        message = msgspec.json.decode(payload)
        kind = message["type"]
        if kind == "signal" and message["signal"].get("type") == "offer":
            answer = {"type": "answer", "key": message["signal"]["key"], "sdp": "x" * SDP}
            self._signal({"type": "signal", "to": message["from"], "signal": answer})
        elif kind == "signal" and message["signal"].get("type") == "answer":
            sent = self._offered.pop(message["signal"]["key"], None)
            if sent is not None:
                self._figures.waits["signal"].append(perf_counter() - sent)
        elif kind == "error":
            self._refused("signaling", message)
        else:
            self._done(kind, message)

    def _notification(self, payload: bytes) -> None:
        message = msgspec.json.decode(payload)
        kind = message["type"]
        if kind == "notification":
            sent = self.notified.pop(message["notification"]["data"].get("key"), None)
            if sent is not None:
                self._figures.waits["notification"].append(perf_counter() - sent)
                self._notify({"type": "mark-read", "notificationId": message["notification"]["id"]})
        elif kind == "error":
            number, key = message.get("requestId", (self.number, None))
            self.mates[number % ROOM].notified.pop(key, None)
            self._refused("notification", message)
        else:
            self._done(kind, message)

    def _refused(self, name: str, message: Json) -> None:
        self._figures.refused[f"{name} refused a message: {message['code']}"] += 1
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"{name} answered {message['code']}"))

    # The connections

    async def _open(
        self, server: Endpoint, path: str, receive: Callable[[bytes], None], headers: dict[str, str]
    ) -> None:
        line = Line(server.name, receive, self._lost)
        await ws_connect(
            lambda: line,
            (server.url + path) if path else f"{server.url}/",
            websocket_handshake_timeout=PATIENCE,
            extra_headers=headers,
        )
        self._lines.append(line)

    def _lost(self, name: str, code: int) -> None:
        if self._leaving:
            return
        self.connected = False
        self._figures.ended[f"{name}, close code {code}"] += 1
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"{name} closed the connection with {code}"))

    def _signal(self, message: Json) -> None:
        self._lines[0].transport.write(text(message))

    def _notify(self, message: Json) -> None:
        self._lines[2].transport.write(text(message))

    async def _answer(self, kind: str) -> Json:
        self._waiting[kind] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._waiting[kind]
        finally:
            del self._waiting[kind]

    def _done(self, kind: str, message: Json) -> None:
        waiting = self._waiting.get(kind)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)


def crowd(people: int, figures: Figures, seconds: float) -> list[Person]:
    """Return so many people in rooms of `ROOM`."""
    base = FIRST_CLIENT + random.randrange(10**9)  # noqa: S311
    everybody = [Person(number, figures, base, seconds) for number in range(people)]
    for person in everybody:
        first = person.number - person.number % ROOM
        person.mates = everybody[first : first + ROOM]
    return everybody
