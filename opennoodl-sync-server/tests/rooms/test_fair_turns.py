"""Fair turns: one at a time, addresses in turns, and none is lost when somebody gives up."""

from __future__ import annotations

import asyncio

from opennoodl_sync.rooms.fair_turns import FairTurns

from ..disks import until


class Turns:
    """Notes who had a turn.

    Attributes:
        had: by name, in order.
        at_once: how many had one at once at most.
    """

    def __init__(self) -> None:
        self.had: list[str] = []
        self.at_once = 0
        self.may_end = asyncio.Event()
        self._turns = FairTurns()
        self._now = 0

    def ask(self, address: str, name: str) -> asyncio.Task[None]:
        """Ask for a turn."""
        return asyncio.create_task(self._have(address, name))

    async def _have(self, address: str, name: str) -> None:
        async with self._turns.turn(address):
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            self.had.append(name)
            await self.may_end.wait()
            self._now -= 1


async def test_addresses_take_turns() -> None:
    """One that asks for much does not delay another one; its own come in their order."""
    turns = Turns()
    asked = [turns.ask("eve", f"eve {number}") for number in range(4)] + [turns.ask("ann", "ann")]
    await until(lambda: turns.had)
    turns.may_end.set()
    await asyncio.gather(*asked)
    assert turns.had == ["eve 0", "eve 1", "ann", "eve 2", "eve 3"]
    assert turns.at_once == 1


async def test_a_room_that_gives_up_keeps_no_other_waiting() -> None:
    """Neither before its turn nor in the moment when it is given."""
    turns, had = FairTurns(), list[str]()

    async def have(name: str) -> None:
        async with turns.turn(name):
            had.append(name)

    async with turns.turn("a"):
        early, late, last = (asyncio.create_task(have(name)) for name in "bcd")
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.wait([early])
    late.cancel()  # it was given the turn, and has not run since
    await asyncio.wait([late, last])
    assert late.cancelled()
    assert had == ["d"]
    await have("e")
    assert had == ["d", "e"]
