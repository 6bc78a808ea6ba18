"""Liveness: finds out whether a connection of another instance answers a ping."""

from __future__ import annotations

import asyncio
from itertools import count

from ..rooms.model import CONTEST_TIMEOUT
from .members import Members
from .membership import Membership


class Liveness:
    """Sends other instances questions about their connections, and answers theirs.

    Args:
        membership: the membership of this instance.
        members: the connections of this instance.
    """

    def __init__(self, membership: Membership, members: Members) -> None:
        self._membership = membership
        self._members = members
        self._numbers = count(1)
        self._questions: dict[int, asyncio.Future[bool]] = {}

    async def is_alive(self, instance: str, number: int) -> bool:
        """Return whether a connection answers a ping; False if its instance does not answer.

        Args:
            instance: the id of the instance of the connection.
            number: the number of the connection at that instance.
        """
        question = next(self._numbers)
        asked = self._questions[question] = asyncio.get_running_loop().create_future()
        self._membership.send_entry(instance, ("ask", number, self._membership.instance, question))
        try:
            async with asyncio.timeout(CONTEST_TIMEOUT + 1):
                return bool(await asked)
        except TimeoutError:
            return False
        finally:
            del self._questions[question]

    async def answer(self, number: int, instance: str, question: int) -> None:
        """Ping a connection of this instance, and send the result to the asking instance."""
        member = self._members.connected.get(number)
        alive = member is not None and await member.connected.is_alive(CONTEST_TIMEOUT)
        self._membership.send_entry(instance, ("alive", question, alive))

    def answered(self, question: int, alive: bool) -> None:
        """Handle the answer of another instance."""
        if (asked := self._questions.get(question)) is not None and not asked.done():
            asked.set_result(alive)
