"""Topics in Redis: y-webrtc's publish and subscribe across instances.

Redis counts the subscribers of each instance. What is published goes to the streams of the instances that have some,
so it has its place in the order of everything else that they are told.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from ..edge.errors import BadMessage, CloseConnection
from . import scripts
from .link import Unreachable
from .members import BROKEN, Member
from .membership import Membership


class SharedTopics:
    """The topics that clients of this instance are subscribed to.

    Args:
        membership: this instance's.
        max_size: subscribers of a topic, at all instances; 0 means any number.
        max_topics: topics of one client; 0 means any number.

    Attributes:
        topics: the subscribers here.
        doubtful: topics whose number in Redis may be wrong, since an answer was lost.
    """

    def __init__(self, membership: Membership, max_size: int, max_topics: int) -> None:
        self.topics: dict[str, set[Member]] = {}
        self.doubtful: set[str] = set()
        self.max_size = max_size
        self._membership = membership
        self._max_topics = max_topics

    def wanted(self, member: Member, names: Iterable[str]) -> Iterable[str]:
        """Return the topics among `names` that the client is not subscribed to, and for which it has room."""
        new = (name for name in dict.fromkeys(names) if name not in member.topics)
        return islice(new, self._max_topics - len(member.topics)) if self._max_topics else new

    async def subscribe(self, member: Member, names: Iterable[str]) -> None:
        """Subscribe to topics; subscribing again changes nothing. The client waits for those that are full.

        Raises:
            BadMessage: `room-full`, with all other topics subscribed; or `too-many-topics`, with those before.
            CloseConnection: Redis does not answer. y-webrtc ignores errors, but connects again.
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
        """Send the client what is published to the topic from now on."""
        self.topics.setdefault(name, set()).add(member)

    async def unsubscribe(self, member: Member, names: Iterable[str]) -> None:
        """Unsubscribe from those of the topics that the client is subscribed to, and wait for none of them."""
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

    async def look_again(self, member: Member) -> None:
        """Close a client if a topic has room now that it was refused: y-webrtc then connects again."""
        if member.closed or member.room is not None or not member.awaited:
            return
        with suppress(Unreachable):
            if await self._membership.ask(scripts.HAS_PLACE, self.max_size, *member.awaited) == b"free":
                member.disconnect(1013, "A full topic has room again. Connect again.", "topic-has-room")

    def full(self) -> BadMessage:
        """Return the error for a topic without a place."""
        return BadMessage("room-full", f"The topic is full: it may have {self.max_size} subscribers.")
