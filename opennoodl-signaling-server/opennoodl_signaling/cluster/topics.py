"""Topics in Redis: y-webrtc's publish and subscribe across instances.

Redis counts the subscribers of each instance. A script appends a published message to the stream of each instance with
subscribers, so it arrives in the same order as other messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from ..edge.errors import BadMessage, CloseConnection
from . import scripts
from .members import BROKEN, Member
from .membership import Membership
from .redis_connection import Unreachable


class SharedTopics:
    """The topics that clients of this instance are subscribed to.

    Args:
        membership: the membership of this instance.
        max_size: subscribers at all instances that one topic may have; 0 means any number.
        max_topics: topics that one client may have, including those it waits for; 0 means any number.

    Attributes:
        topics: by topic, the subscribers at this instance.
        doubtful: topics whose number of subscribers in Redis may be wrong, because an answer was lost.
    """

    def __init__(self, membership: Membership, max_size: int, max_topics: int) -> None:
        self.topics: dict[str, set[Member]] = {}
        self.doubtful: set[str] = set()
        self.max_size = max_size
        self._membership = membership
        self._max_topics = max_topics

    def new_topics(self, member: Member, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""
        new = (name for name in dict.fromkeys(names) if name not in member.topics)
        return islice(new, self._max_topics - len(member.topics)) if self._max_topics else new

    async def subscribe(self, member: Member, names: Iterable[str]) -> None:
        """Subscribe a client to topics. It waits for the topics that are full. A second subscription has no effect.

        Raises:
            BadMessage: `room-full` if a topic is full; the client is subscribed to all other topics then.
                `too-many-topics` if the client has too many; it is subscribed to the topics before that one then.
            CloseConnection: Redis does not answer. y-webrtc ignores errors, but reconnects after a close.
        """
        new: list[str] = []
        too_many = False
        for name in dict.fromkeys(names):
            if name in member.topics:
                continue
            if self._max_topics and len(member.topics | member.awaited.union(new) - {name}) >= self._max_topics:
                too_many = True
                break
            new.append(name)
        full = False
        if new:
            try:
                outcomes = await self._membership.ask(scripts.SUBSCRIBE, member.number, self.max_size, *new)
            except Unreachable as error:
                if error.sent:
                    self.doubtful.update(new)
                raise CloseConnection(1013, BROKEN, "unavailable") from None
            if outcomes[0] != b"ok":
                raise CloseConnection(1013, BROKEN, "unavailable")
            for name, outcome in zip(new, outcomes[1:], strict=True):
                if outcome == b"ok":
                    member.awaited.discard(name)
                    member.topics.add(name)
                    self.topics.setdefault(name, set()).add(member)
                else:
                    member.awaited.add(name)
                    full = True
        if too_many:
            raise BadMessage("too-many-topics", f"A connection may subscribe to {self._max_topics} topics.")
        if full:
            raise self.full()

    def subscribed(self, member: Member, name: str) -> None:
        """Deliver messages that are published to a topic from now on to a client."""
        self.topics.setdefault(name, set()).add(member)

    async def unsubscribe(self, member: Member, names: Iterable[str]) -> None:
        """Unsubscribe a client from topics, and stop waiting for them."""
        subscribed = [name for name in dict.fromkeys(names) if name in member.topics]
        awaited = [name for name in dict.fromkeys(names) if name in member.awaited]
        for name in subscribed:
            member.topics.discard(name)
            subscribers = self.topics[name]
            subscribers.discard(member)
            if not subscribers:
                del self.topics[name]
        member.awaited.difference_update(awaited)
        if not subscribed and not awaited:
            return
        try:
            await self._membership.ask(scripts.UNSUBSCRIBE, member.number, len(subscribed), *subscribed, *awaited)
        except Unreachable:
            self.doubtful.update(subscribed)

    async def close_if_free(self, member: Member) -> None:
        """Close a client if a full topic that it waits for has room again: y-webrtc then reconnects."""
        if member.closed or member.room is not None or not member.awaited:
            return
        with suppress(Unreachable):
            if await self._membership.ask(scripts.HAS_PLACE, self.max_size, *member.awaited) == b"free":
                member.disconnect(1013, "A full topic has room again. Connect again.", "topic-has-room")

    def full(self) -> BadMessage:
        """Return the error for a full topic."""
        return BadMessage("room-full", f"The topic is full: its limit of subscribers is {self.max_size}.")
