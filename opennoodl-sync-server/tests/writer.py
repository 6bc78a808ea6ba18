"""Clients that reconnect with their documents, and record what the server sent and acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pycrdt
from opennoodl_sync.yjs.delete_set import insert
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.update import Parts, read
from pycrdt import Decoder, Doc, TransactionEvent
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from .editor import Editor
from .wire import step_1, sync_content, update_message

ACK = 100
"""The first varint of an acknowledgement."""
NOTHING = b"\x00\x00"
"""The update without any change."""
PATIENCE = 120.0
"""Time limit for clients to converge, in seconds; documents of many rounds are large."""
EARLY = 500
"""Limit of messages before a client is synced: the server refuses a client after about 1,000 pending updates."""
LONG_TEXT = 500
"""Characters of a text from which edits also delete."""


class Writer(Editor):
    """A client that edits, loses its connection, reconnects with its document, and continues.

    Args:
        room: the room.
        client: its client id.
        dice: the source of its random choices.
        ack: whether it requests acknowledgements.

    Attributes:
        shown: every update that the server has sent since `forget`.
        promised: every own update that the server has acknowledged since `forget`.
        pause: seconds after each message, or after a few, in `write_on`.
        code: the close code of the last connection; None while it is open.
    """

    def __init__(self, room: str, client: int, dice: random.Random, *, ack: bool = False) -> None:
        super().__init__(client)
        self.room = room
        self.ack = ack
        self.dice = dice
        self.pause = 0.0
        self.shown: list[bytes] = []
        self.promised: list[bytes] = []
        self.sent: list[bytes] = []  # updates on this connection
        self.acknowledged = 0  # number of acknowledged ones
        self.synced = False
        self._changed = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def code(self) -> int | None:
        """The close code of the last connection."""
        assert self._socket is not None
        return self._socket.close_code

    @property
    def end(self) -> str:
        """The code and reason with which the last connection was closed, and the last messages before."""
        assert self._socket is not None
        last = [message.hex() for message in self.sent[-5:]]
        return f"{self.code} {self._socket.close_reason!r} after {last}"

    async def connect(self, port: int) -> None:
        """Connect and sync; step 2 to the server has the edits made offline."""
        url = f"ws://127.0.0.1:{port}/{self.room}{'?ack=true' if self.ack else ''}"
        socket = await connect(url, compression=None, max_size=None, ping_interval=None)
        self.sent, self.acknowledged, self.synced = [], 0, False
        self._socket = socket
        self._reading = asyncio.create_task(self._read(socket))
        with suppress(ConnectionClosed):  # the disk has failed; the reader records the close
            await socket.send(step_1(self.doc.get_state()))
        # A client such as y-websocket's may edit before it has sent step 2. Then its updates depend on offline edits
        # that the server does not have yet. They are stored and acknowledged, but stay pending. If the server is killed
        # before step 2 arrives, they cannot be checked. Therefore a client that counts acknowledgements waits here.
        while self.ack and not self.sent and not self._reading.done():
            await self._next_message()

    async def ended(self) -> int:
        """Wait for the end of the connection; return its close code."""
        assert self._socket is not None
        assert self._reading is not None
        async with asyncio.timeout(PATIENCE):
            await self._reading
            await self._socket.wait_closed()
        assert self.code is not None
        return self.code

    async def vanish(self) -> None:
        """Abort the connection, without a closing handshake."""
        assert self._socket is not None
        self._socket.transport.abort()
        await self.ended()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a message makes `condition` true."""
        assert self._reading is not None
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert not self._reading.done(), f"the connection ended with {self.code}"
                self._changed.clear()
                await self._changed.wait()

    async def _next_message(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def next_message(self) -> asyncio.Task[bool]:
        """Return a task that is done after the next message."""
        assert self._reading is not None
        assert not self._reading.done(), f"the connection ended with {self.code}"
        self._changed.clear()  # here, since a message may come before the task starts
        return asyncio.create_task(self._changed.wait())

    async def write_on(self, port: int) -> None:
        """Edit as fast as the server and `pause` allow, sometimes offline, until the server ends the connection."""
        try:
            while True:
                if self.dice.random() < 0.01:
                    await self.vanish()
                    for _ in range(self.dice.randint(5, 50)):
                        self.edit()
                    await self.connect(port)
                for _ in range(self.dice.randint(1, 5)):
                    await self.send(update_message(self.edit()))
                await asyncio.sleep(self.pause)
                while not self.synced and len(self.sent) > EARLY and self.code is None:
                    await self._next_message()
        except (ConnectionClosed, WebSocketException, OSError):
            await self.ended()

    def edit(self) -> bytes:
        """Make a small edit; return its update."""
        dice, length, many = self.dice, len(self._text), len(self._array)
        what = dice.random()
        if length > LONG_TEXT or (what < 0.15 and length > 20):
            start = dice.randrange(length - 10)
            return self.delete(start, min(length, start + dice.randint(1, 10 if length < LONG_TEXT else length)))
        if what < 0.6:
            return self.write(f"{self.doc.client_id}:{len(self.updates)} ", dice.randrange(length + 1))
        if what < 0.8:
            return self.put(f"key-{dice.randrange(20)}", {"by": self.doc.client_id, "list": [len(self.updates)]})
        if many > 30:
            del self._array[0 : dice.randint(1, many)]
            return self.updates[-1]
        return self.push(len(self.updates))

    async def send(self, message: bytes) -> None:
        """Send a message with an update."""
        assert self._socket is not None
        self.sent.append(message)  # before any await, so this is the order on the wire
        await self._socket.send(message)

    @property
    def waits(self) -> bool:
        """Whether the document has pending updates of the server."""
        known = state(self.doc)
        return any(bounds[-1] > known.get(client, 0) for client, bounds in self._received().items())

    def lost(self, fresh: Writer) -> str:
        """Return the difference if a new client lacks updates that this client was sent or that were acknowledged.

        The updates are compared, not only the document. The server may have an update that depends on a client's
        offline edits. yrs shows such an update before the dependency has come if it came alone, and clients build on
        it. A new client gets it together with other updates; then it stays pending in yrs, with all that depends on it.
        Yjs does the same.
        """
        received = fresh._received()
        for client, clock in state(self.doc).items():
            start, end, *_ = received.get(client, [0, 0])
            if client != self.doc.client_id and (start or clock > end):
                return f"{clock - end} changes of client {client} were shown to {self.doc.client_id}"
        if fresh.waits:
            return ""
        if changing := changes(fresh.doc, self.shown):
            return f"{len(changing)} of {len(self.shown)} updates were shown to {self.doc.client_id}: {changing}"
        if missing := lacks(fresh.doc, self.promised):
            return (
                f"{len(missing)} of {len(self.promised)} updates were acknowledged to {self.doc.client_id}: {missing}"
            )
        return ""

    def _received(self) -> dict[int, list[int]]:
        """Return the clocks of updates from the server, by client: clock, end, clock, end and so on."""
        received: dict[int, list[int]] = {}
        for update in self.shown:
            parts = Parts()
            finish(read(update, parts))
            for run in parts.runs:
                insert(received.setdefault(run.client, []), run.clock, run.end)
        return received

    def forget(self) -> None:
        """Clear `shown` and `promised`."""
        self.shown.clear()
        self.promised.clear()

    def agrees(self, others: Iterable[Writer]) -> bool:
        """Return whether this document equals those of the others."""
        mine, update = state(self.doc), None
        for other in others:
            if state(other.doc) != mine:
                return False
            update = update or self.doc.get_update()
            if lacks(other.doc, [update]) or lacks(self.doc, [other.doc.get_update()]):
                return False
            assert self.same(other)
        return True

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                assert isinstance(message, bytes)
                if message[0] == ACK:
                    self._acknowledge(message)
                elif message[0] == 0:
                    for kind in (1, 2):
                        if message[1] == kind:
                            self.shown.append(sync_content(message, kind))
                    for reply in self.hear(message):
                        await self.send(reply)
                    self.synced = self.synced or message[1] == 1
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self._changed.set()

    def _acknowledge(self, message: bytes) -> None:
        assert self.ack, "an acknowledgement that was not asked for"
        decoder = Decoder(message[1:])
        number = decoder.read_var_uint()
        assert decoder.length == 0
        assert self.acknowledged < number <= len(self.sent)
        self.promised += [sync_content(sent, sent[1]) for sent in self.sent[self.acknowledged : number]]
        self.acknowledged = number


async def converged(writers: Sequence[Writer]) -> None:
    """Wait until all writers of a room have the same document."""
    rooms = {writer.room: [other for other in writers if other.room == writer.room] for writer in writers}
    async with asyncio.timeout(PATIENCE):
        while not all(writer.agrees(rooms[writer.room]) for writer in writers):
            # The next message for any of them may complete the convergence.
            waits = [writer.next_message() for writer in writers]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def lacks(doc: Doc[Any], updates: Sequence[bytes]) -> list[bytes]:
    """Return those of `updates` that are not completely in a document."""
    state_vector = doc.get_state()
    # A pending update would not change the document, so missing structs are searched first.
    return [update for update in updates if _ahead(update, state_vector)] or changes(doc, updates)


def changes(doc: Doc[Any], updates: Sequence[bytes]) -> list[bytes]:
    """Return those of `updates` that change a copy of a document when all are applied to it."""
    copy: Doc[Any] = Doc()
    copy.apply_update(doc.get_update())
    changing: list[bytes] = []

    def changed(event: TransactionEvent, update: bytes) -> None:
        if event.update != NOTHING:
            changing.append(update)

    for update in updates:
        subscription = copy.observe(lambda event, update=update: changed(event, update))
        copy.apply_update(update)
        copy.unobserve(subscription)
    return changing


def state(doc: Doc[Any]) -> dict[int, int]:
    """Return the state vector of a document: clocks by client."""
    return dict(_pairs(Decoder(doc.get_state())))


def _ahead(update: bytes, state_vector: bytes) -> bool:
    """Return whether an update has structs beyond the state vector, or deletions."""
    rest = Decoder(pycrdt.get_update(update, state_vector))
    if rest.read_var_uint() > 0:
        return True
    known = dict(_pairs(Decoder(state_vector)))
    for _ in range(rest.read_var_uint()):
        client = rest.read_var_uint()
        if any(clock + length > known.get(client, 0) for clock, length in _pairs(rest)):
            return True
    return False


def _pairs(decoder: Decoder) -> list[tuple[int, int]]:
    return [(decoder.read_var_uint(), decoder.read_var_uint()) for _ in range(decoder.read_var_uint())]
