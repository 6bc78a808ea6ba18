"""Messages that were recorded and then changed at random, and those who send them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText, write_var_uint
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from .wire import QUERY, awareness_message, step_1, step_2, sync_content, update_message

PATIENCE = 15.0
"""Seconds after which an answer that did not come never will."""
HUGE = [write_var_uint(2**bits + more) for bits in (7, 14, 28, 31, 32, 53, 63, 64) for more in (-1, 0)] + [b"\xff" * 11]
"""Numbers at the edges of what decoders read, and one without an end."""
EDITS = 60
"""Edits of which a recording is made."""
LAST = 20
"""Messages that a failure shows; all of them are in a file."""


def record(dice: random.Random) -> list[bytes]:
    """Return messages of three editors who write into one document all that Yjs knows, in their order.

    Their numbers and clocks are small, so that one mistaken for another is often there.
    """
    updates: list[bytes] = []
    docs = [Doc[Any](client_id=client) for client in (1, 2, 3)]
    subscriptions = [(doc, doc.observe(lambda event: updates.append(event.update))) for doc in docs]
    for _ in range(EDITS):
        author = dice.choice(docs)
        count = len(updates)
        dice.choice(EDITORS)(dice, author)
        made = updates[count:]
        for doc in docs:
            if doc is not author and dice.random() < 0.8:
                for update in made:
                    doc.apply_update(update)
        del updates[count + len(made) :]
    for doc, subscription in subscriptions:
        doc.unobserve(subscription)
    messages = [update_message(update) for update in updates]
    for doc in docs:
        messages += [step_1(doc.get_state()), step_2(doc.get_update(dice.choice(docs).get_state()))]
        messages.append(awareness_message((doc.client_id, dice.randrange(5), {"name": "eve", "at": [1, None, 0.5]})))
    return [*messages, awareness_message((1, 9, None), (2, 9, {})), QUERY]


def _write(dice: random.Random, doc: Doc[Any]) -> None:
    text = doc.get("t", type=Text)
    text.insert(dice.randint(0, len(text)), dice.choice(["a", "words ", "more words "]))


def _erase(dice: random.Random, doc: Doc[Any]) -> None:
    text = doc.get("t", type=Text)
    if length := len(text):
        start = dice.randrange(length)
        del text[start : min(length, start + dice.randint(1, 4))]


def _format(dice: random.Random, doc: Doc[Any]) -> None:
    text = doc.get("t", type=Text)
    if len(text) > 2:
        text.format(0, dice.randint(1, len(text) - 1), {"bold": dice.choice([True, None])})
    else:
        text.insert_embed(0, {"image": "x"})


def _put(dice: random.Random, doc: Doc[Any]) -> None:
    value = dice.choice(
        [1, 2**40, 0.1, "text", b"bytes", None, True, "\U0001f600", [1, {"a": None}], Text("in"), Map({}), Doc()]
    )
    doc.get("m", type=Map)[dice.choice("xyz")] = value


def _remove(dice: random.Random, doc: Doc[Any]) -> None:
    entries = doc.get("m", type=Map)
    if keys := sorted(entries.keys()):
        del entries[dice.choice(keys)]


def _push(dice: random.Random, doc: Doc[Any]) -> None:
    array = doc.get("a", type=Array)
    array.insert(dice.randint(0, len(array)), dice.choice([1, "x", None, Map({"n": Array([1, Text("deep")])})]))


def _nest(dice: random.Random, doc: Doc[Any]) -> None:
    for item in doc.get("a", type=Array):
        if isinstance(item, Map):
            item[dice.choice("nop")] = Array([Map({"deeper": dice.randrange(9)})])


def _pop(dice: random.Random, doc: Doc[Any]) -> None:
    array = doc.get("a", type=Array)
    if len(array):
        del array[dice.randrange(len(array))]


def _mark_up(dice: random.Random, doc: Doc[Any]) -> None:
    children = doc.get("x", type=XmlFragment).children
    if len(children) > 3:
        del children[0]
    children.append(XmlElement("p", {"class": "c"})).children.append(XmlText("some"))


EDITORS: list[Callable[[random.Random, Doc[Any]], None]] = [
    *(_write, _write, _erase, _format, _put, _remove, _push, _nest, _pop, _mark_up)
]


def mutate(dice: random.Random, pool: list[bytes]) -> bytes:
    """Return a message from the pool, changed; most keep their frame, so that the change is in what it holds."""
    message = dice.choice(pool)
    if message[0] == 0 and dice.random() < 0.85:
        content = sync_content(message, message[1])
        others = [sync_content(other, other[1]) for other in pool if other[:2] == message[:2]]
        content = _changed(dice, content, others)
        return message[:2] + write_var_uint(len(content)) + content
    return _changed(dice, message, pool)


def _changed(dice: random.Random, data: bytes, others: list[bytes]) -> bytes:
    for _ in range(dice.choice([0, 1, 1, 1, 1, 2, 2, 3])):
        at = dice.randint(0, len(data))
        end = min(len(data), at + dice.randint(1, 8))
        other = dice.choice(others)
        bits = bytes(byte ^ 1 << dice.randrange(8) for byte in data[at : at + 1])
        data = dice.choice(
            [
                data[:at] + bits + data[at + 1 :],
                data[:at] + bytes([dice.randrange(12)]) + data[at + 1 :],
                data[:at],
                data[:at] + data[end:],
                data[:at] + dice.randbytes(dice.randint(1, 4)) + data[at:],
                data[:at] + other[dice.randint(0, len(other)) :],
                data[:at] + dice.choice(HUGE) + data[at + 1 :],
                data[:end] + data[at:end] * dice.randint(1, 3) + data[end:],
            ]
        )
    return data


class Journal:
    """Everything that was sent to a room: a line a message, in hex, written before it is sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w")

    def write(self, message: bytes) -> None:
        """Add a message."""
        self._file.write(message.hex() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def explain(self) -> str:
        """Return the last messages, and where the others are."""
        lines = self.path.read_text().splitlines()
        return "\n".join([f"the last of {len(lines)} messages, the others are in {self.path}:", *lines[-LAST:]])


class Eve:
    """Somebody who sends what was mutated, and comes back when that was refused.

    Attributes:
        codes: what the connections were closed with.
    """

    def __init__(self, port: int, room: str, journal: Journal) -> None:
        self.codes: set[int] = set()
        self._url = f"ws://127.0.0.1:{port}/{room}"
        self._journal = journal
        self._socket: ClientConnection | None = None

    async def send(self, messages: list[bytes]) -> None:
        """Send messages in a row, and wait until the server has answered or closed."""
        try:
            if self._socket is None:
                self._socket = await connect(self._url, compression=None, max_size=None, ping_interval=None)
                await self._socket.send(step_1(b"\x00"))
            for message in messages:
                self._journal.write(message)
                await self._socket.send(message)
            await self._socket.send(QUERY)
            async with asyncio.timeout(PATIENCE):
                while (await self._socket.recv())[0] != 1:
                    pass
        except ConnectionClosed:
            assert self._socket is not None
            self.codes.add(self._socket.close_code or 0)
            self._socket = None
        except (WebSocketException, OSError):  # TimeoutError is one
            self.codes.add(0)
            self._socket = None

    async def leave(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            await self._socket.close()
