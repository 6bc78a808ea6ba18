"""Unread output: it is counted, and where memory is short those with most of it are cut."""

from __future__ import annotations

from opennoodl_sync.memory.budget import ROOM_SIZE, MemoryBudget
from opennoodl_sync.memory.unread_output import PATIENCE, UnreadOutput
from opennoodl_sync.rooms.room import Room

from ..memory_records import MemoryRecords

LIMIT = 800_000


class Waiting:
    """A connection with the methods that the module calls."""

    def __init__(self, buffered: int) -> None:
        self.buffered = buffered
        self.is_closing = False
        self.cut = False

    def abort(self) -> None:
        """Take note."""
        self.cut = True


def counted(documents: int, *buffered: int) -> tuple[MemoryBudget, UnreadOutput[Waiting], list[Waiting]]:
    """Return a budget with so many bytes of documents, and connections with so many bytes each."""
    budget = MemoryBudget(LIMIT)
    budget.count(Room("room", MemoryRecords()), documents - ROOM_SIZE)
    unread, connections = UnreadOutput[Waiting](budget), [Waiting(size) for size in buffered]
    for connection in connections:
        unread.add(connection)
    return budget, unread, connections


def test_unread_output_of_all_connections_is_counted() -> None:
    """It is what waits for each connection, and what is kept for it elsewhere."""
    budget, unread, connections = counted(0, 100, 0, 1000)
    unread.count({connections[0]: 5000})
    assert budget.output == 6100
    connections[0].buffered = 0
    unread.count({})
    assert budget.output == 1000


def test_those_with_most_are_cut_where_memory_is_full() -> None:
    """No more of them than it takes until large answers need not wait any more."""
    budget, unread, connections = counted(400_000, 100_000, 200_000, 0, 150_000)
    unread.count({})
    assert [connection.cut for connection in connections] == [False, True, False, False]
    assert budget.output == 250_000
    assert not budget.short


def test_nobody_is_cut_at_once_where_memory_is_short() -> None:
    """Clients have some time to read, which begins anew when there is enough memory between."""
    _, unread, connections = counted(500_000, 100_000, 150_000)
    for _ in range(PATIENCE):
        unread.count({})
    connections[1].buffered = 0
    unread.count({})
    connections[1].buffered = 150_000
    for _ in range(PATIENCE):
        unread.count({})
    assert not connections[1].cut
    unread.count({})
    assert [connection.cut for connection in connections] == [False, True]


def test_a_connection_counts_until_it_is_gone() -> None:
    """One that is closing may hold much still."""
    budget, unread, (closing,) = counted(0, 1000)
    closing.is_closing = True
    unread.count({})
    assert budget.output == 1000
    closing.buffered = 0
    unread.count({})
    closing.buffered = 1000
    unread.count({})
    assert budget.output == 0
