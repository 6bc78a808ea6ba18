"""Requests: does what a client asks for after all that it has asked for before, and tells it what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from msgspec import Raw, UnsetType

from ..edge.errors import BadMessage, CloseConnection
from ..edge.messages import request_id
from ..sender import Sender
from .link import Unreachable
from .members import BROKEN, Member
from .membership import Membership


def unavailable() -> BadMessage:
    """Return the error for what needs Redis while it is away."""
    return BadMessage("unavailable", "The shared state is away or being restored; try again in a few seconds.")


class Requests:
    """The requests of all clients.

    Args:
        membership: this instance's.
        sender: sends what went wrong.
    """

    def __init__(self, membership: Membership, sender: Sender) -> None:
        self._membership = membership
        self._sender = sender

    def require(self) -> None:
        """See whether Redis can be asked.

        Raises:
            BadMessage: `unavailable`.
        """
        if not self._membership.link.up:
            raise unavailable()

    def begin(self, member: Member, work: Coroutine[Any, Any, None], message: bytes) -> Awaitable[None]:
        """Begin some work for a client; it goes on if nobody waits for it."""
        return asyncio.shield(self._membership.spawn(self.fulfil(member, work, message)))

    async def fulfil(self, member: Member, work: Coroutine[Any, Any, None], message: bytes) -> None:
        """Do some work for a client."""
        bad: BadMessage
        async with member.lock:
            if member.closed:
                work.close()
                return
            try:
                await work
                return
            except BadMessage as error:
                bad = error
            except Unreachable as error:
                if error.sent:
                    member.disconnect(1013, BROKEN, "unavailable")
                    return
                bad = unavailable()
            except CloseConnection as close:
                member.disconnect(close.code, close.reason, close.refusal)
                return
        self.refuse(member, bad, request_id(message))

    def refuse(self, member: Member, bad: BadMessage, echoed: Raw | UnsetType) -> None:
        """Tell a client what went wrong, if it is connected."""
        if not member.closed:
            bad.request_id = echoed
            self._sender.refuse(member.connected, bad)
