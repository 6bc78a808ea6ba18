"""Requests: carries out the requests of each client one after the other, and sends errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from msgspec import Raw, UnsetType

from ..edge.errors import BadMessage, CloseConnection
from ..edge.messages import request_id
from ..sender import Sender
from .members import BROKEN, Member
from .membership import Membership
from .redis_connection import Unreachable


def unavailable() -> BadMessage:
    """Return the error for a request while Redis does not answer."""
    return BadMessage("unavailable", "The shared state is away or being restored; try again in a few seconds.")


class Requests:
    """The requests of all clients.

    Args:
        membership: the membership of this instance.
        sender: sends the errors.
    """

    def __init__(self, membership: Membership, sender: Sender) -> None:
        self._membership = membership
        self._sender = sender

    def require(self) -> None:
        """Check that the connection to Redis is usable.

        Raises:
            BadMessage: `unavailable`; it is not.
        """
        if not self._membership.link.up:
            raise unavailable()

    def begin(self, member: Member, work: Coroutine[Any, Any, None], message: bytes) -> Awaitable[None]:
        """Begin a request of a client; return an awaitable for its end. Cancelling that does not cancel the request."""
        return asyncio.shield(self._membership.spawn(self.fulfil(member, work, message)))

    async def fulfil(self, member: Member, work: Coroutine[Any, Any, None], message: bytes) -> None:
        """Carry out a request of a client after its earlier ones, and send the error if it fails.

        Args:
            member: the client.
            work: carries out the request.
            message: the bytes of the request, of which the error repeats the `requestId`.
        """
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
        """Send an error to a client, if it is connected."""
        if not member.closed:
            bad.request_id = echoed
            self._sender.refuse(member.connected, bad)
