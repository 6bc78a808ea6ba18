"""Numbers of an inbox: none is used twice, and none of a lost state is taken for one of today."""

from __future__ import annotations

import pytest
from msgspec import structs
from opennoodl_notification.inbox.state import GAPS, HISTORY, JUMP, Inbox

NOW = 1_700_000_000_000
"""Some time, in milliseconds."""


def changed(inbox: Inbox, times: int, epoch: int = 0, now: int = NOW) -> Inbox:
    """Return an inbox after some changes."""
    for _ in range(times):
        inbox.advance(epoch, now)
    return inbox


def test_first_number_is_after_the_time() -> None:
    """Numbers begin after the time; those before, 0 among them, are none of this inbox's."""
    inbox = changed(Inbox(user_id="u", sequence=0), 2)
    last = inbox.sequence
    assert NOW + 2 <= last < NOW + 2 + (1 << JUMP)
    asked = (0, 1, NOW - 1, last - 3, last - 2, last - 1, last, last + 1)
    assert [since for since in asked if inbox.remembers(since)] == [last - 1, last]


def test_missing_inbox_remembers_only_0() -> None:
    """An inbox that is not there remembers 0 and nothing else."""
    inbox = Inbox(user_id="u", sequence=0)
    assert [since for since in (0, 1, NOW) if inbox.remembers(since)] == [0]


def test_numbers_continue_in_another_epoch() -> None:
    """In another epoch numbers go on after the time, and former ones are remembered."""
    inbox = changed(Inbox(user_id="u", sequence=0), 3)
    former, later = inbox.sequence, NOW + (2 << JUMP)
    changed(inbox, 2, epoch=1, now=later)
    last = inbox.sequence
    assert last >= later + 2
    asked = [*range(former - 4, former + 4), *range(last - 3, last + 3)]
    remembered = [since for since in asked if inbox.remembers(since)]
    assert remembered == [former - 2, former - 1, former, last - 1, last]


def test_older_epoch_continues_with_the_newer_numbers() -> None:
    """A server whose epoch is older goes on with the numbers of the newer one."""
    inbox = changed(Inbox(user_id="u", sequence=0), 1, epoch=2)
    first = inbox.sequence
    changed(inbox, 1, epoch=1, now=NOW + 5000)
    assert (inbox.sequence, inbox.epoch, len(inbox.gaps)) == (first + 1, 2, 1)


@pytest.mark.parametrize("clock", [-5000, 0, 10_000])
def test_lost_numbers_are_not_reused(clock: int) -> None:
    """Numbers that were lost are neither used again nor remembered, wherever the clock is by then."""
    backup = changed(Inbox(user_id="u", sequence=0), 5)
    lost = changed(structs.replace(backup), 400, epoch=1)
    again = changed(backup, 1000, epoch=1, now=NOW + clock)
    assert not again.remembers(lost.sequence)
    assert again.gaps[-1][1] not in range(lost.gaps[-1][1] - 1000, lost.sequence + 1)


def test_number_of_remembered_changes_is_bounded() -> None:
    """As many changes are remembered as ever, whatever lies between their numbers."""
    inbox = Inbox(user_id="u", sequence=0)
    numbers = []
    for epoch in range(5):
        for _ in range(HISTORY // 4):
            inbox.advance(epoch, NOW + epoch)
            numbers.append(inbox.sequence)
    assert [number for number in numbers if inbox.remembers(number)] == numbers[-HISTORY - 1 :]


def test_number_of_gaps_is_bounded() -> None:
    """Gaps are bounded in number: what lies before them is not remembered."""
    inbox = Inbox(user_id="u", sequence=0)
    numbers = []
    for epoch in range(3 * GAPS):
        inbox.advance(epoch, NOW)
        numbers.append(inbox.sequence)
    assert len(inbox.gaps) == GAPS
    assert [number for number in numbers if inbox.remembers(number)] == numbers[-GAPS:]
    assert not any(inbox.remembers(number + 1) for number in numbers[:-1])
