"""A document with what it gave to keep."""

from __future__ import annotations

from opennoodl_sync.document import Changes, Document
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.yjs import decode_state_vector

from .editor import Editor
from .edits import opened, snapshot


class Kept:
    """A document and what it gave to keep.

    Attributes:
        records: what is kept.
        document: the document.
    """

    def __init__(self, *records: bytes) -> None:
        self.records = list(records)
        self.document = Document(lambda: self.records)

    def turn(self, *updates: bytes) -> Changes:
        """Integrate updates, keep what that gives, and return it."""
        for data in updates:
            self.document.integrate(data)
        changes = self.document.commit()
        self.records += [*changes.updates, *changes.held]
        return changes

    def send(self, *updates: bytes) -> list[bytes]:
        """Integrate updates, each in a turn of its own; return those that are refused."""
        refused = []
        for data in updates:
            try:
                self.turn(data)
            except MalformedError:
                refused.append(data)
        return refused

    def again(self) -> Document:
        """Return the document that is loaded from what is kept."""
        return Document(lambda: self.records)


def look(document: Document) -> tuple[object, ...]:
    """Return what a document shows, how much of every client it has, and what waits in it."""
    known = {client: clock for client, clock in decode_state_vector(document.state_vector()).items() if clock}
    return snapshot(opened(document.state())), known, set(document.waiting)


def typed(*words: str) -> list[bytes]:
    """Return the updates of somebody who writes these words in a row."""
    ann = Editor(1)
    return [ann.write(word) for word in words]


def agree(kept: Kept) -> None:
    """Check that a document is the same live, when it is loaded, and when it is loaded from what it says of itself."""
    live = look(kept.document)
    assert look(kept.again()) == live
    assert look(Kept(*kept.document.whole()).document) == live
