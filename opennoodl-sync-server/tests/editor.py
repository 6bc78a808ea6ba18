"""What the tests share: an editor with a document of its own, and updates that were made to do harm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycrdt import Array, Doc, Map, Text, handle_sync_message

BASE = bytes.fromhex("01010100040101740361626300")
"""Client 1 writes "abc" into the text "t"."""
UNSOUND = {
    "in a text": bytes.fromhex("0101020004000100017800"),
    "an entry of a text": bytes.fromhex("0101020028000100016b017e00"),
    "behind what is in a text": bytes.fromhex("01020200040001000178840200017900"),
    "an unknown content": bytes.fromhex("01010103130601010302585900"),
    "another unknown content": bytes.fromhex("01010109d89406017c4000000000"),
}
"""Updates that are refused. The first three can be read, and fail while yrs integrates them into `BASE`."""
DAMAGING = {name: update for name, update in UNSOUND.items() if "text" in name}
"""Those of them that yrs fails on."""
WAITING = {
    "a type and a text": bytes.fromhex("0102010607010161020400010102696e00"),
    "a reference to what comes later": bytes.fromhex("010101e805010601ae40010000"),
    "after what is not there": bytes.fromhex("0101010a840102047461696c00"),
    "a deletion": bytes.fromhex("000101010603"),
}
"""Mutated Yjs updates that build on what is not in `BASE`; the first one makes yrs fail when it waits in it."""
CRASHING = [
    BASE,
    *map(
        bytes.fromhex,
        (
            "0101010a840102047461696c00",
            "000101010603",
            "0102010607010161020400010602696e00",
            "01010108840102047461696c00",
        ),
    ),
]
"""Mutated Yjs updates that end the process, with a memory fault, when one document of yrs is given all of them."""
POISON = {
    "after a deletion": [BASE, *map(bytes.fromhex, ("000101010101", "0102010607010161020400010102696e00"))],
    "in the wrong order": [
        BASE,
        *map(
            bytes.fromhex,
            (
                "01010103c40101010202585900",
                "010101052801016d016b01760101787c3f80000000",
                "0102010607010161020400010602696e00",
                "0102010603010161020400010602696e00",
            ),
        ),
    ],
}
"""Mutated Yjs updates that yrs integrates one by one, and then fails on when it reads them from disk together."""
MUTATED = [
    bytes.fromhex(update)
    for update in (
        "010101052801016d016b01760101787c3f80000000",
        "01010110a80105017c404000000101010501",
        "01010107840102047468696c00",
        "01010206880205017c4080000000",
        "000101010603",
        "01010100040101740361626300",
        "0101010a840102047461696c00",
        "0102010607010161020400010602696e00",
        "010302022701016d01710127000202017a0008000203027c3f8000007c4000000000",
    )
]
"""Mutated Yjs updates, each of which a document takes or refuses."""


class Editor:
    """Somebody who edits a document.

    Attributes:
        doc: the document, as this editor sees it.
        updates: every update that its own edits made, in order.
    """

    def __init__(self, client: int, *known: bytes) -> None:
        self.doc: Doc[Any] = Doc(client_id=client)
        self.updates: list[bytes] = []
        self._text = self.doc.get("t", type=Text)
        self._map = self.doc.get("m", type=Map)
        self._array = self.doc.get("a", type=Array)
        self.take(*known)
        self._subscription = self.doc.observe(lambda event: self.updates.append(event.update))

    @property
    def text(self) -> str:
        """The text of the document."""
        return str(self._text)

    def same(self, other: Editor) -> bool:
        """Whether this document is the same as that of another editor."""
        return content(self.doc) == content(other.doc)

    def write(self, text: str, at: int | None = None) -> bytes:
        """Insert `text` and return the update of that."""
        self._text.insert(len(self._text.to_py() or "") if at is None else at, text)
        return self.updates[-1]

    def delete(self, start: int, stop: int) -> bytes:
        """Delete a piece of the text and return the update of that."""
        del self._text[start:stop]
        return self.updates[-1]

    def put(self, key: str, value: object) -> bytes:
        """Set an entry of the map and return the update of that."""
        self._map[key] = value
        return self.updates[-1]

    def push(self, value: object) -> bytes:
        """Append to the array and return the update of that."""
        self._array.append(value)
        return self.updates[-1]

    def hear(self, *messages: bytes) -> list[bytes]:
        """Take sync messages as pycrdt's provider does, and return what is to be answered."""
        mine = len(self.updates)
        replies = [handle_sync_message(message[1:], self.doc) for message in messages if message[0] == 0]
        del self.updates[mine:]
        return [reply for reply in replies if reply is not None]

    def take(self, *updates: bytes) -> None:
        """Apply others' updates."""
        mine = len(self.updates)
        for update in updates:
            self.doc.apply_update(update)
        del self.updates[mine:]


def content(doc: Doc[Any]) -> tuple[str, object, object]:
    """Return everything that editors write into a document, as plain values."""
    text, entries, array = doc.get("t", type=Text), doc.get("m", type=Map), doc.get("a", type=Array)
    return str(text), entries.to_py(), array.to_py()


def merged(updates: Iterable[bytes]) -> Doc[Any]:
    """Return the document that plain pycrdt makes of `updates`, each applied by itself."""
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc
