"""Presence: whether a client is there, which it shows by answering a ping."""

from __future__ import annotations

import asyncio

ARE_YOU_THERE = b"are you there?"
"""What such a ping says."""


class Presence:
    """What is known of one client. All who want to know wait for the same answer: nobody is pinged twice for it."""

    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: asyncio.Future[bool] | None = None

    def ask(self) -> bool:
        """Return whether the client has to be pinged; from then on, an answer is expected."""
        if self._answer is not None:
            return False
        self._answer = asyncio.get_running_loop().create_future()
        return True

    async def answer(self, seconds: float) -> bool:
        """Return whether an answer that is expected comes within `seconds`."""
        if self._answer is None:
            return False
        done, _ = await asyncio.wait((self._answer,), timeout=seconds)
        return any(answer.result() for answer in done)

    def expects(self, pong: bytes) -> bool:
        """Return whether this is the answer."""
        return self._answer is not None and pong == ARE_YOU_THERE

    def show(self, pong: bytes) -> None:
        """Take a pong, which may be the answer."""
        if self._answer is not None and self.expects(pong):
            self._answer.set_result(True)
            self._answer = None

    def end(self) -> None:
        """Expect no answer any more: the client is gone."""
        if self._answer is not None:
            self._answer.set_result(False)
            self._answer = None
