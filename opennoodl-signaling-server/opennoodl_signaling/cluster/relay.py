"""The relay: passes on signals and published messages. Redis finds the receivers; no client waits for its answer."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import UNSET, Raw, UnsetType

from ..edge.errors import BadMessage
from ..edge.messages import encode, request_id
from ..messages import Signal, SignalFrom
from ..rooms.rooms import NOT_IN_ROOM, QUEUE_FULL, UNKNOWN_PEER, PeerNotFound
from . import scripts
from .members import Member
from .membership import Membership
from .requests import Requests, unavailable
from .topics import SharedTopics


class Relay:
    """Passes messages from clients of this instance to clients of all instances.

    Args:
        membership: the membership of this instance.
        requests: sends errors to clients.
        topics: the topics that clients of this instance are subscribed to.
    """

    def __init__(self, membership: Membership, requests: Requests, topics: SharedTopics) -> None:
        self._membership = membership
        self._requests = requests
        self._topics = topics

    def signal(self, member: Member, signal: Signal) -> None:
        """Pass a signal on to a peer of the room.

        Raises:
            BadMessage: `not-in-room`, or `unavailable` if the connection to Redis is lost.
        """
        room = member.room
        if room is None:
            raise BadMessage("not-in-room", NOT_IN_ROOM)
        self._requests.require()
        message = encode(SignalFrom(from_=member.info.peer_id, signal=signal.signal))
        echoed = b"" if signal.request_id is UNSET else bytes(signal.request_id)
        answer = self._membership.call(
            scripts.SIGNAL, room.name, member.info.peer_id, member.number, signal.to, echoed, message
        )
        answer.add_done_callback(partial(self._signalled, member, signal.to, signal.request_id))

    def _signalled(self, member: Member, to: str, echoed: Raw | UnsetType, answer: asyncio.Future[bytes]) -> None:
        """Send an error to the sender of a signal that was not passed on."""
        bad: BadMessage
        if not self._membership.has_run(answer):
            bad = PeerNotFound("The shared state is away: the signal may be lost.", to)
            bad.code = "unavailable"
        else:
            match answer.result():
                case b"sent" | b"held":
                    return
                case b"full":
                    bad = PeerNotFound(QUEUE_FULL, to)
                case b"unknown":
                    bad = PeerNotFound(UNKNOWN_PEER, to)
                case _:
                    bad = BadMessage("not-in-room", NOT_IN_ROOM)
        self._requests.refuse(member, bad, echoed)

    def publish(self, member: Member, topic: str, message: bytes) -> None:
        """Pass a message on to all subscribers of a topic.

        Raises:
            BadMessage: `unavailable`; the connection to Redis is lost.
        """
        self._requests.require()
        answer = self._membership.call(
            scripts.PUBLISH, topic, self._topics.max_size, int(topic in member.topics), message.rstrip()[:-1]
        )
        answer.add_done_callback(partial(self._published, member, request_id(message)))

    def _published(self, member: Member, echoed: Raw | UnsetType, answer: asyncio.Future[bytes]) -> None:
        if not self._membership.has_run(answer):
            self._requests.refuse(member, unavailable(), echoed)
        elif answer.result() == b"full":
            self._requests.refuse(member, self._topics.full(), echoed)
