"""Honest editors in a process of their own, since what a server passes on may bring down who applies it.

Takes commands and answers as the JavaScript clients do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any

from pycrdt import Decoder, Doc, Map, Text, create_sync_message, create_update_message, handle_sync_message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0
"""Seconds after which what was not shown never will be."""
MAX_SAFE_INTEGER = 2**53 - 1
"""The largest number that lib0 reads."""
NOTHING = b"\x00\x00"
"""The update that changes nothing."""


class FaultError(Exception):
    """What an honest client cannot live with."""


class Honest:
    """A client that follows the protocol and takes every word of the server.

    Attributes:
        fault: what was wrong with a message that came, if one was.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.doc: Doc[Any] = Doc()
        self.fault: str | None = None
        self.synced = False
        self._socket = socket
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def join(cls, url: str, room: str) -> Honest:
        """Connect, and wait until the document is up to date."""
        client = cls(await connect(f"{url}/{room}", compression=None, max_size=None, ping_interval=None))
        await client._socket.send(create_sync_message(client.doc))
        await client.until(lambda: client.synced, "step 2 did not come")
        return client

    async def until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait until a message has made `condition` true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.check() and not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise FaultError(otherwise) from None

    def check(self) -> bool:
        """Raise if a message was wrong or the connection is not open any more."""
        if self.fault is not None:
            raise FaultError(self.fault)
        if self._reading.done():
            raise FaultError(f"the connection of an honest client was closed with {self._socket.close_code}")
        return True

    async def edit(self, number: int) -> None:
        """Change a map that nobody else has, and the text that everybody writes, each with a message."""
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        self.doc.get("honest", type=Map)[str(number)] = number
        self.doc.get("text", type=Text).insert(0, f"honest {number} ")
        self.doc.unobserve(subscription)
        for update in updates:
            await self._socket.send(create_update_message(update))

    def knows(self, writer: Honest, number: int) -> bool:
        """Whether an edit has come, all of it."""
        client = writer.doc.client_id
        came = state(self.doc).get(client) == state(writer.doc)[client]
        return came and self.doc.get("honest", type=Map).get(str(number)) == number

    async def leave(self) -> None:
        """Close the connection."""
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                assert isinstance(message, bytes)
                try:
                    reply = self._take(message)
                # A panic of yrs is not even an Exception.
                except BaseException as error:
                    self.fault = f"an honest client was sent {message.hex()} and that fails with {error!r}"
                    return
                if reply is not None:
                    await self._socket.send(reply)
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self._changed.set()

    def _take(self, message: bytes) -> bytes | None:
        if message[0] == 0:
            reply = handle_sync_message(message[1:], self.doc)
            self.synced = self.synced or message[1] == 1
            return reply
        assert message[0] == 1, "a message of no kind that clients know"
        outer = Decoder(message[1:])
        inner = Decoder(outer.read_message() or b"")
        for _ in range(inner.read_var_uint()):
            assert max(inner.read_var_uint(), inner.read_var_uint()) <= MAX_SAFE_INTEGER
            json.loads(inner.read_var_string(), parse_constant=_refuse)
        assert outer.length == inner.length == 0
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def state(doc: Doc[Any]) -> dict[int, int]:
    """Return for every client how much of it a document has."""
    decoder = Decoder(doc.get_state())
    pairs = [(decoder.read_var_uint(), decoder.read_var_uint()) for _ in range(decoder.read_var_uint())]
    return {client: clock for client, clock in pairs if clock}  # yrs knows of some that only wait


def adds(doc: Doc[Any], other: Doc[Any]) -> bool:
    """Whether a document has something that another one has not, deletions included."""
    copy: Doc[Any] = Doc()
    copy.apply_update(other.get_update())
    updates: list[bytes] = []
    subscription = copy.observe(lambda event: updates.append(event.update))
    copy.apply_update(doc.get_update())
    copy.unobserve(subscription)
    return any(update != NOTHING for update in updates)


def different(doc: Doc[Any], other: Doc[Any]) -> str:
    """Return in what two documents differ, or nothing."""
    mine, others = state(doc), state(other)
    if mine != others:
        return f"{mine} is known of the one and {others} of the other"
    if adds(doc, other):
        return "less is deleted in the other"
    if adds(other, doc):
        return "more is deleted in the other"
    return ""


class Honesty:
    """All honest clients: one in each room that stays, and those who come to edit."""

    def __init__(self) -> None:
        self.bystanders: dict[str, Honest] = {}
        self._edits = 0

    async def join(self, url: str, room: str) -> None:
        """Put a bystander into a room."""
        self.bystanders[room] = await Honest.join(url, room)

    async def edit(self, url: str, room: str) -> None:
        """Let somebody new edit, and wait until the bystander has that."""
        self._edits += 1
        number = self._edits
        writer = await Honest.join(url, room)
        await writer.edit(number)
        bystander = self.bystanders[room]
        try:
            await bystander.until(lambda: bystander.knows(writer, number), "an honest edit did not arrive")
        except FaultError as error:
            raise FaultError(f"{error}; {different(writer.doc, bystander.doc)}") from None
        writer.check()
        await writer.leave()

    async def check(self, room: str) -> None:
        """Find out whether a bystander is well."""
        self.bystanders[room].check()

    async def agree(self, room: str, update: str, text: str) -> None:
        """Find out whether a bystander has the document that somebody else has, and sees the same text."""
        other: Doc[Any] = Doc()
        other.apply_update(base64.b64decode(update))
        bystander = self.bystanders[room]
        if difference := different(bystander.doc, other):
            raise FaultError(f"what pycrdt has is not what Yjs has: {difference}")
        if (seen := str(bystander.doc.get("text", type=Text))) != text:
            raise FaultError(f"pycrdt shows {seen!r} and Yjs {text!r}")

    async def leave(self, room: str) -> None:
        """Let a bystander go, and keep what it has."""
        await self.bystanders[room].leave()

    async def compare(self, url: str, room: str) -> None:
        """Compare what somebody new is sent with what the bystander had."""
        fresh = await Honest.join(url, room)
        await fresh.leave()
        if difference := different(fresh.doc, self.bystanders[room].doc):
            raise FaultError(f"what was loaded is not what the bystander has: {difference}")

    async def forget(self, room: str) -> None:
        """Forget what a bystander had."""
        del self.bystanders[room]


async def main() -> None:
    """Carry out commands, as the JavaScript clients do."""
    honesty = Honesty()
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def run(id: int, command: str, **arguments: Any) -> None:  # noqa: A002
        answer: dict[str, Any] = {"event": "answer", "id": id}
        try:
            await getattr(honesty, command)(**arguments)
        except BaseException as error:  # a panic of yrs is not even an Exception
            answer = {"event": "failed", "id": id, "error": repr(error)}
        print(json.dumps(answer), flush=True)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(run(**json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
