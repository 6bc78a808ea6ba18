"""An editor with a document, and malicious updates, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycrdt import Array, Doc, Map, Text, handle_sync_message

BASE = bytes.fromhex("01010100040101740361626300")
"""Client 1 writes "abc" into the text "t"."""
UNSOUND = {
    "an unknown content": bytes.fromhex("01010103130601010302585900"),
    "an unknown value": bytes.fromhex("0101010328010174016b017300"),
    "a text that is not UTF-8": bytes.fromhex("0101010384010203ff414200"),
    "a value that is not JSON": bytes.fromhex("01010103860102016203747275" + "00"),
    "an origin of its own future": bytes.fromhex("01010103840109017800"),
    "a right origin of its own future": bytes.fromhex("01010103440103017800"),
    "a parent of its own future": bytes.fromhex("010101030400010501" + "7800"),
    "a client that comes twice": bytes.fromhex("020101030401017401780101040401017401790" + "0"),
    "a subdocument without options": bytes.fromhex("01010103090101740167" + "7e00"),
    "an empty struct": bytes.fromhex("010101030000" + "00"),
    "a clock that is too large": bytes.fromhex("0101010300ffffffff1f" + "00"),
    "a deletion that is too far": bytes.fromhex("00010101" + "ffffffff0f" + "01"),
    "an integer that is too large": bytes.fromhex("01010103a80100017dffffffffffffffffff0100"),
    "an end that is missing": bytes.fromhex("01010103840102"),
}
"""Updates after `BASE` that a Yjs client cannot decode or integrate."""
ODD = {
    "in a text": bytes.fromhex("0101020004000100017800"),
    "an entry of a text": bytes.fromhex("0101020028000100016b017e00"),
    "behind what is in a text": bytes.fromhex("01020200040001000178840200017900"),
}
"""Valid updates that no editor makes: their parent is not a type, so Yjs makes a ``GC`` of them."""


class Editor:
    """An editor of a document.

    Attributes:
        doc: its copy of the document.
        updates: the updates of its own edits, in order.
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
        """Return whether this document equals that of another editor."""
        return content(self.doc) == content(other.doc)

    def write(self, text: str, at: int | None = None) -> bytes:
        """Insert `text`; return the update."""
        self._text.insert(len(self._text.to_py() or "") if at is None else at, text)
        return self.updates[-1]

    def delete(self, start: int, stop: int) -> bytes:
        """Delete a range of the text; return the update."""
        del self._text[start:stop]
        return self.updates[-1]

    def put(self, key: str, value: object) -> bytes:
        """Set an entry of the map; return the update."""
        self._map[key] = value
        return self.updates[-1]

    def push(self, value: object) -> bytes:
        """Append to the array; return the update."""
        self._array.append(value)
        return self.updates[-1]

    def hear(self, *messages: bytes) -> list[bytes]:
        """Handle sync messages like pycrdt's provider; return the answers."""
        mine = len(self.updates)
        replies = [handle_sync_message(message[1:], self.doc) for message in messages if message[0] == 0]
        del self.updates[mine:]
        return [reply for reply in replies if reply is not None]

    def take(self, *updates: bytes) -> None:
        """Apply updates of others."""
        mine = len(self.updates)
        for update in updates:
            self.doc.apply_update(update)
        del self.updates[mine:]


def content(doc: Doc[Any]) -> tuple[str, object, object]:
    """Return the contents of a document that editors use, as plain values."""
    text, entries, array = doc.get("t", type=Text), doc.get("m", type=Map), doc.get("a", type=Array)
    return str(text), entries.to_py(), array.to_py()


def merged(updates: Iterable[bytes]) -> Doc[Any]:
    """Return pycrdt's document after `updates`, each applied separately."""
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc
