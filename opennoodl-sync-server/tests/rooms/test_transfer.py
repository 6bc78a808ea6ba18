"""Large answers: in parts, each an update of its own, of which the last one says that all is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opennoodl_sync.memory.budget import MemoryBudget
from opennoodl_sync.rooms.answers import LargeAnswer
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.rooms.timeslicer import TimeSlicer
from opennoodl_sync.rooms.transfer import Transfer, Transfers
from opennoodl_sync.yjs import difference as difference_module
from opennoodl_sync.yjs.difference import Difference
from opennoodl_sync.yjs.lib0 import finish

from ..client import Server
from ..editor import Editor
from ..memory_records import MemoryRecords
from ..turns import ask, flush, is_quiet, messages, open_room, send


class Answer(Difference):
    """A difference with updates that the test has chosen."""

    def __init__(self, updates: Iterator[bytes | None]) -> None:
        super().__init__([], None, b"\0")
        self._updates = updates


def begun(updates: Iterator[bytes | None]) -> Transfer:
    """Return a transfer of an answer."""
    return Transfer(LargeAnswer(b"\0", Answer(updates), b"\0", 0))


def answer_of(room: Room, state_vector: bytes = b"\0") -> LargeAnswer:
    """Return what a client at a state vector lacks of a room's document."""
    document = room.document
    return LargeAnswer(state_vector, document.difference(state_vector), document.state_vector(), document.version)


def sent(transfer: Transfer) -> Iterator[bytes]:
    """Yield all messages."""
    while not transfer.ended:
        yield finish(transfer.next_message())


def test_only_the_last_message_is_step_2() -> None:
    """y-websocket takes a document to be complete with the first step 2 that it hears."""
    transfer = begun(iter([b"one", None, b"two", None, None, b"three", None]))
    assert [(message[1], message[3:]) for message in sent(transfer)] == [(2, b"one"), (2, b"two"), (1, b"three")]


def test_a_single_update_is_step_2() -> None:
    """An answer of one update is one message."""
    assert [message[1] for message in sent(begun(iter([None, b"one"])))] == [1]


def test_the_parts_make_the_document() -> None:
    """A new client that hears all parts has the document, and no part is much larger than it may be."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    for number in range(40):
        send(room, "ann", ann.write(chr(97 + number % 26) * 50_000), ann.put(f"k{number}", number))
        flush(room)
    send(room, "ann", ann.delete(10, 500_000))
    flush(room)
    ask(room, "bob")
    ((_, answer),) = flush(room).large
    messages = list(sent(Transfer(answer)))
    assert 3 <= len(messages) <= 6
    assert max(map(len, messages)) < difference_module.CHUNK + 60_000
    bob = Editor(2)
    bob.hear(*messages)
    assert bob.same(ann)


def test_memory_of_a_transfer_is_counted() -> None:
    """The state vector of the document, and parts that the document has replaced."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 100_000))
    flush(room)
    transfer = Transfer(answer_of(room))
    finish(transfer.next_message())
    assert (transfer.memory, transfer.superseded(room.document)) == (len(room.document.state_vector()), [])
    send(room, "ann", ann.write("y" * 100_000))
    (old,) = transfer.superseded(room.document)
    assert old.memory >= 100_000


def large_room() -> tuple[Room, Editor, Transfer]:
    """Return a room, its editor Ann, and the transfer that Bob's step 1 has begun."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 300_000))
    flush(room)
    ask(room, "bob")
    ((client, answer),) = flush(room).large
    assert client == "bob"
    return room, ann, Transfer(answer)


def test_no_update_comes_before_its_predecessors() -> None:
    """During a large answer its client is sent no updates; what came meanwhile is the next answer, and then it is."""
    room, ann, transfer = large_room()
    bob = Editor(2)
    send(room, "ann", ann.write("meanwhile"))
    assert "bob" not in flush(room).synced
    bob.hear(*sent(transfer))
    room.transferred("bob", transfer.answer.state_vector, transfer.answer.version)
    bob.hear(*messages(flush(room), "bob"))
    assert bob.same(ann)
    send(room, "ann", ann.write("later"))
    bob.hear(*messages(flush(room), "bob"))
    assert bob.same(ann)


def test_a_large_answer_has_only_what_is_stored() -> None:
    """What comes while a turn is written is in no large answer of that turn: it may never be stored."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 300_000))
    flush(room)
    ask(room, "bob")
    stored = flush(room)  # is being written
    send(room, "ann", ann.write("not stored"))
    ((_, answer),) = stored.large
    bob = Editor(2)
    bob.hear(*sent(Transfer(answer)))
    assert bob.text == "x" * 300_000
    room.transferred("bob", answer.state_vector, answer.version)
    bob.hear(*messages(flush(room), "bob"))
    assert bob.same(ann)


def test_nothing_follows_where_nothing_came_meanwhile() -> None:
    """The client has everything, and is sent updates from then on."""
    room, ann, transfer = large_room()
    room.transferred("bob", transfer.answer.state_vector, transfer.answer.version)
    assert is_quiet(flush(room))
    send(room, "ann", ann.write("later"))
    assert "bob" in flush(room).synced


def test_another_step_1_during_a_large_answer_begins_no_other_one() -> None:
    """y-websocket may repeat it every few seconds, and a client on a slow line would never get to the end."""
    room, _, _ = large_room()
    ask(room, "bob")
    assert is_quiet(flush(room))
    assert flush(room).large == []


def test_updates_come_during_a_second_large_answer() -> None:
    """All deletions are in every answer, so one that waits for quiet could go on for ever."""
    room, ann, transfer = large_room()
    send(room, "ann", ann.write("y" * 300_000))
    flush(room)
    room.transferred("bob", transfer.answer.state_vector, transfer.answer.version)
    assert [client for client, _ in flush(room).large] == ["bob"]
    send(room, "ann", ann.write("z"))
    assert "bob" in flush(room).synced


def test_a_client_that_is_slow_when_its_large_answer_ends() -> None:
    """It is sent nothing until it reads, and then everything that it lacks."""
    room, ann, transfer = large_room()
    bob = Editor(2)
    bob.hear(*sent(transfer))
    room.put_behind("bob")
    flush(room)
    room.transferred("bob", transfer.answer.state_vector, transfer.answer.version)
    send(room, "ann", ann.write("more"))
    assert messages(flush(room), "bob") == []
    room.catch_up("bob")
    bob.hear(*messages(flush(room), "bob"))
    assert bob.same(ann)


async def test_a_large_document_arrives_while_others_write(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose answer comes in parts misses nothing that is written meanwhile."""
    monkeypatch.setattr(difference_module, "CHUNK", 20_000)
    ann = await server.join("room", 1)
    for number in range(100):
        await ann.type(f"{number} " * 2_000)
    bob = await server.join("room", 2, sync=False)
    await bob.step_1()
    for number in range(100):
        await ann.type(f"{number} ")
    await bob.agrees(ann)
    await ann.type("end")
    await bob.shows("end")


class Reader:
    """A client, which reads nothing unless `buffered` says otherwise."""

    address = ""

    def __init__(self, buffered: int = 10_000_000) -> None:
        self.buffered = buffered


async def test_memory_shared_by_transfers_counts_once() -> None:
    """Parts that the document has replaced are counted for one of those that keep them."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 100_000))
    flush(room)
    transfers = Transfers[Reader](MemoryBudget(0), TimeSlicer(), lambda *_: None, lambda *_: None, lambda *_: None)
    bob, eve = Reader(), Reader()
    for client in (bob, eve):
        transfers.begin(client, room, answer_of(room))
    vector = len(room.document.state_vector())
    assert transfers.memory() == {bob: vector, eve: vector}
    send(room, "ann", ann.write("y" * 100_000))
    assert sorted(transfers.memory().values())[0] == vector
    assert sorted(transfers.memory().values())[1] >= 100_000
    transfers.end(bob)
    assert transfers.memory()[eve] >= 100_000


async def test_an_answer_is_sent_to_its_end_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was slow meanwhile, and is sent what came since, lacks nothing of what came before."""
    monkeypatch.setattr(difference_module, "CHUNK", 20_000)
    room, ann, bob = open_room(MemoryRecords()), Editor(1), Editor(2)
    for number in range(5):
        send(room, "ann", ann.write(chr(97 + number) * 30_000))
        flush(room)
    came: asyncio.Queue[bytes] = asyncio.Queue()
    send_to = lambda _, message: came.put_nowait(message)  # noqa: E731
    again = lambda client, state_vector: transfers.begin(client, room, answer_of(room, state_vector))  # noqa: E731
    transfers = Transfers[Reader](MemoryBudget(0), TimeSlicer(), send_to, lambda *_: None, again)
    reader = Reader(buffered=0)
    transfers.begin(reader, room, answer_of(room))
    bob.hear(await came.get())
    since = room.document.state_vector()
    send(room, "ann", ann.write("z" * 30_000))
    flush(room)
    transfers.begin(reader, room, answer_of(room, since))
    ends = 0
    while ends < 2:
        message = await came.get()
        ends += message[1] == 1  # step 2
        bob.hear(message)
    assert bob.same(ann)
    assert transfers.memory() == {}


async def test_a_client_asks_again_when_there_is_memory_for_its_answer() -> None:
    """An answer that waited would keep parts that the document has replaced, and lack what came since."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 100_000))
    flush(room)
    asked: asyncio.Queue[tuple[Reader, bytes]] = asyncio.Queue()
    again = lambda *asks: asked.put_nowait(asks)  # noqa: E731
    transfers = Transfers[Reader](MemoryBudget(1), TimeSlicer(), lambda *_: None, lambda *_: None, again)
    bob, eve = Reader(), Reader()
    for client in (bob, eve):
        transfers.begin(client, room, answer_of(room, b"\x00"))
    assert transfers.memory() == {bob: len(room.document.state_vector()), eve: 1}
    assert asked.empty()
    transfers.end(bob)
    async with asyncio.timeout(30):
        assert await asked.get() == (eve, b"\x00")
    assert transfers.memory() == {}


async def test_a_client_that_has_left_is_sent_no_answer_that_follows() -> None:
    """Nothing is kept for it."""
    room, ann = open_room(MemoryRecords()), Editor(1)
    send(room, "ann", ann.write("x" * 100_000))
    flush(room)
    transfers = Transfers[Reader](MemoryBudget(0), TimeSlicer(), lambda *_: None, lambda *_: None, lambda *_: None)
    reader = Reader()
    for _ in range(3):
        transfers.begin(reader, room, answer_of(room))
    vector = len(room.document.state_vector())
    assert transfers.memory() == {reader: vector + 1}
    transfers.end(reader)
    transfers.begin(reader, room, answer_of(room))
    assert transfers.memory() == {reader: vector}
