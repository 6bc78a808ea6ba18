"""Makes the Yjs updates that are sent, all before any clock starts.

Every made-up update inserts a token of its own into a text, in plain ASCII, so that it can be found in what a
server sends, merged with others or not, without decoding anything while the clock runs.
"""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pycrdt import Doc, Map, Text, merge_updates

from .protocols import varbytes, varuint

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Recorded editing sessions, beside the repository."""
END = b"~end"
"""The prefix of every last token."""
ENDS = re.compile(rb"~end(\d\d);")
TOKENS = re.compile(rb"w\d\dn\d{6}")
CURSORS = re.compile(rb"c\d\dn\d{6}")
MARK_EVERY = 1000
"""Updates of a recording between two marks."""
HEADING = "heading;"
LINE = 25
"""Tokens in a line."""
FIRST_CLIENT = 3_000_000_000
"""Client ids as large as most that Yjs draws."""


def token(writer: int, number: int) -> bytes:
    """Return the token of a writer's update."""
    return b"w%02dn%06d" % (writer, number)


def cursor(user: int, number: int) -> bytes:
    """Return the token of a user's awareness update."""
    return b"c%02dn%06d" % (user, number)


@cache
def typed(writer: int, count: int, client: int | None = None) -> tuple[bytes, ...]:
    """Return `count` updates of one writer, each of which types a token; the last one ends with `END`.

    The writer has the Yjs client id `client`, or else one that depends on its number only.

    Every `LINE` tokens a new line begins above the last one, below the writer's own heading: nobody types
    on and on at one place, and servers are slow with texts that were.
    """
    doc: Doc[Any] = Doc(client_id=FIRST_CLIENT + writer if client is None else client)
    text = doc.get("text", type=Text)
    made = _collect(doc)
    at = 0
    for number in range(count):
        inserted = token(writer, number).decode() + ";"
        if number == 0:
            inserted = HEADING + inserted
        elif number % LINE == 0:
            at = len(HEADING)
        if number == count - 1:
            inserted += f"~end{writer:02};"
        text.insert(at, inserted)
        at += len(inserted)
    assert len(made) == count
    return tuple(made)


@cache
def moves(user: int, count: int, client: int | None = None) -> tuple[bytes, ...]:
    """Return `count` awareness updates of one user, as editors send them; each one carries a token.

    The user has the Yjs client id `client`, or else one that depends on its number only.
    """
    client = FIRST_CLIENT + user if client is None else client
    made = []
    for number in range(count):
        position = {"type": None, "tname": "text", "item": {"client": client, "clock": number}, "assoc": 0}
        state = {
            "user": {"name": f"User {user}", "color": "#4c9ffe"},
            "cursor": {"anchor": position, "head": position},
            "token": cursor(user, number).decode(),
        }
        head = varuint(1) + varuint(client) + varuint(number + 1)
        made.append(head + varbytes(json.dumps(state, separators=(",", ":")).encode()))
    return tuple(made)


@cache
def document(size: int, records: int) -> tuple[bytes, ...]:
    """Return a component graph, as an editor keeps it, in about as many updates as `records`, of `size` bytes together.

    The last one holds the token of end.
    """
    doc: Doc[Any] = Doc(client_id=FIRST_CLIENT)
    nodes = doc.get("nodes", type=Map)
    fresh = _collect(doc)
    made: list[bytes] = []
    number = 0
    while sum(map(len, made)) < size:
        while sum(map(len, fresh)) < size / records:
            with doc.transaction():
                for _ in range(8):
                    nodes[f"node-{number:06}"] = _node(number)
                    number += 1
        made.append(merge_updates(*fresh))
        fresh.clear()
    doc.get("text", type=Text).insert(0, "~end00;")
    return (*made, *fresh)


def _node(number: int) -> Map[Any]:
    return Map(
        {
            "type": ("Group", "Text", "Image", "Function", "Repeater")[number % 5],
            "x": number * 37 % 4000,
            "y": number * 91 % 4000,
            "label": f"Component {number}",
            "parameters": Map({"width": f"{number % 100}%", "color": f"#{number * 7919 % 0xFFFFFF:06x}"}),
        }
    )


@dataclass(frozen=True)
class Recording:
    """A recorded session.

    Attributes:
        updates: one for each edit, in the order of the recording, and marks between them.
        text: what was written in the end.
    """

    updates: Sequence[bytes]
    text: str


def recorded(name: str, edits: int | None = None) -> Recording | None:
    """Return a recorded session, or None if it is not there.

    Args:
        name: of its file, without the endings.
        edits: how many of its edits to take; all of them by default.
    """
    path = DATA / f"{name}.json.gz"
    return _replayed(path, edits) if path.exists() else None


@cache
def _replayed(path: Path, edits: int | None) -> Recording:
    session = json.loads(gzip.decompress(path.read_bytes()))
    turns = session["txns"][:edits]
    authors = [_Author(FIRST_CLIENT + 1 + number) for number in range(session.get("numAgents", 1))]
    marks = _Author(FIRST_CLIENT)
    made: list[bytes] = []
    updates: list[bytes] = []
    for number, turn in enumerate(turns):
        author = authors[turn.get("agent", 0)]
        if "parents" in turn:
            author.learn(turn["parents"], turns, made)
        made.append(author.edit(turn["patches"]))
        author.known.add(number)
        updates.append(made[-1])
        if number % MARK_EVERY == MARK_EVERY - 1:
            updates.append(marks.say(token(0, number // MARK_EVERY).decode() + ";"))
    updates.append(marks.say("~end00;"))
    merged: Doc[Any] = Doc()
    text = merged.get("text", type=Text)
    with merged.transaction():
        for update in updates:
            merged.apply_update(update)
    assert edits is not None or str(text) == session["endContent"], f"{path.name} does not end as it was recorded"
    return Recording(updates, str(text))


class _Author:
    """One who types, and knows of others' edits only what the recording says."""

    def __init__(self, client: int) -> None:
        self.doc: Doc[Any] = Doc(client_id=client)
        self.text = self.doc.get("text", type=Text)
        self.marks = self.doc.get("marks", type=Text)
        self.known: set[int] = set()
        self._made = _collect(self.doc)

    def learn(self, parents: list[int], turns: list[Any], made: list[bytes]) -> None:
        """Take over the edits that `parents` build on."""
        new: set[int] = set()
        waiting = list(parents)
        while waiting:
            number = waiting.pop()
            if number not in self.known and number not in new:
                new.add(number)
                waiting += turns[number]["parents"]
        for number in sorted(new):
            self.doc.apply_update(made[number])
        self.known |= new

    def edit(self, patches: list[tuple[int, int, str]]) -> bytes:
        """Carry out one edit and return its update."""
        self._made.clear()
        with self.doc.transaction():
            for position, deleted, inserted in patches:
                if deleted:
                    del self.text[position : position + deleted]
                if inserted:
                    self.text.insert(position, inserted)
        return self._made[0]

    def say(self, words: str) -> bytes:
        """Append to a text that is not the one that is written."""
        self._made.clear()
        self.marks.insert(len(self.marks), words)
        return self._made[0]


def _collect(doc: Doc[Any]) -> list[bytes]:
    made: list[bytes] = []
    doc.observe(lambda event: made.append(event.update))
    return made
