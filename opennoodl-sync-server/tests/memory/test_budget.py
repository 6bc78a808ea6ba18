"""The memory budget: what documents and output may take."""

from __future__ import annotations

from opennoodl_sync.memory.budget import ROOM_SIZE, TRANSFER_SIZE, MemoryBudget
from opennoodl_sync.rooms.room import Room

from ..editor import Editor
from ..memory_records import MemoryRecords
from ..turns import receive
from ..wire import update_message

LIMIT = 1_000_000


def room() -> Room:
    """Return an empty room."""
    return Room("room", MemoryRecords())


def test_a_quarter_is_kept_for_output() -> None:
    """Documents may take three quarters, or less if more output waits."""
    budget = MemoryBudget(LIMIT)
    assert budget.allows(750_000)
    assert not budget.allows(750_001)
    budget.count_output(400_000)
    assert budget.allows(600_000)
    assert not budget.allows(600_001)


def test_without_a_limit_everything_is_allowed() -> None:
    """Zero is no limit; documents are counted all the same."""
    budget = MemoryBudget(0)
    budget.count(room(), LIMIT)
    budget.count_output(LIMIT)
    assert budget.allows(LIMIT)
    assert (budget.full, budget.short) == (False, False)
    assert budget.documents == LIMIT + ROOM_SIZE


def test_documents_are_counted_once() -> None:
    """The latest size of a document counts, until it is removed."""
    budget, one, other = MemoryBudget(LIMIT), room(), room()
    budget.count(one, 100)
    budget.count(one, 300)
    budget.count(other, 1000)
    assert budget.documents == 1300 + 2 * ROOM_SIZE
    budget.remove(one)
    budget.remove(one)
    assert budget.documents == 1000 + ROOM_SIZE


def test_updates_count_until_their_document_is_counted_again() -> None:
    """The memory of a change is estimated at once, and counted exactly later."""
    budget, one = MemoryBudget(LIMIT), room()
    budget.count(one)
    update = Editor(1).write("x" * 10_000)
    receive(one, "ann", update_message(update))
    assert budget.grow(one, len(update))
    assert budget.documents == ROOM_SIZE + len(update)
    budget.recount()
    assert budget.documents == ROOM_SIZE + one.document.memory


def test_a_document_grows_no_further_than_the_limit() -> None:
    """A change over the limit is not counted; deletions may use the part that is kept for output."""
    budget, one = MemoryBudget(LIMIT), room()
    budget.count(one, 500_000 - ROOM_SIZE)
    assert not budget.grow(one, 250_001)
    assert budget.grow(one, 250_000)
    assert not budget.grow(one, 1)
    assert budget.grow(one, 250_000, deletes=True)
    assert not budget.grow(one, 1, deletes=True)
    assert budget.documents == LIMIT


def test_space_is_made_before_a_document_is_refused() -> None:
    """A change is counted if space can be made for it."""
    budget, one, idle = MemoryBudget(LIMIT), room(), room()
    budget.count(one, 100_000)
    budget.count(idle, 600_000)

    def unload(size: int, deletes: bool) -> bool:
        budget.remove(idle)
        return budget.allows(size, deletes=deletes)

    budget.when_full(unload)
    assert budget.grow(one, 200_000)
    assert not budget.grow(one, 600_000)
    assert budget.documents == 300_000 + ROOM_SIZE


def test_a_document_that_is_changing_is_counted_later() -> None:
    """While a large update is taken in, its document has not grown yet; the update counts until it has."""
    budget, one = MemoryBudget(LIMIT), room()
    budget.count(one)
    one.set_busy(True)
    assert budget.grow(one, 700_000)
    budget.recount()
    assert budget.documents == ROOM_SIZE + 700_000
    assert not budget.allows(100_000)
    one.set_busy(False)
    budget.recount()
    assert budget.documents == ROOM_SIZE + one.document.memory


def test_a_document_that_left_is_not_counted_again() -> None:
    """A change that was on its way to be told when its room left adds nothing."""
    budget, one, other = MemoryBudget(LIMIT), room(), room()
    for each in one, other:
        budget.count(each, 1000)
    assert budget.grow(one, 10)
    budget.remove(one)
    assert budget.grow(one, 10)
    budget.change(one)
    budget.recount()
    assert budget.documents == 1000 + ROOM_SIZE


def test_it_is_short_before_it_is_full() -> None:
    """An eighth is left when large answers begin to wait."""
    budget = MemoryBudget(LIMIT)
    budget.count(room(), 500_000 - ROOM_SIZE)
    for output, short, full in (375_000, False, False), (375_001, True, False), (500_000, True, False), (500_001, 1, 1):
        budget.count_output(output)
        assert (budget.short, budget.full) == (short, full)


def test_large_answers_wait_where_memory_is_short() -> None:
    """Each that has begun takes some; one may begin in any case."""
    budget = MemoryBudget(16 * TRANSFER_SIZE)
    budget.count_output(11 * TRANSFER_SIZE + 1)
    for number in range(3):
        assert budget.may_transfer
        budget.transfers = number + 1
    assert not budget.may_transfer
    budget.transfers = 0
    budget.count_output(16 * TRANSFER_SIZE)
    assert budget.may_transfer
