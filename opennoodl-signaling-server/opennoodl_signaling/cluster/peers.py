"""Peers: the clients of this instance join, change and leave rooms of all instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec import structs

from ..messages import Join, Leave
from ..rooms.model import Contest, Effect
from ..rooms.rooms import Rooms
from . import records, scripts
from .changes import Change
from .devices import Devices
from .link import PAUSE
from .liveness import Liveness
from .members import Member, Members
from .membership import Membership
from .model import Focus, SharedPeer
from .redis_connection import Unreachable
from .requests import Requests, unavailable
from .rooms import Decision, SharedRooms
from .topics import SharedTopics
from .transaction import Transaction

DRAIN = 3.0
"""Time limit in seconds for the clients of a stopping server to leave their rooms."""


class Peers:
    """Makes the decisions about rooms for the clients of this instance.

    Args:
        membership: the membership of this instance.
        members: the connections of this instance.
        rooms: the rooms of all instances.
        devices: the devices of users at this instance.
        topics: the topics that clients of this instance are subscribed to.
        requests: sends errors to clients.
        liveness: finds out whether a peer of another instance is alive.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        members: Members,
        rooms: SharedRooms,
        devices: Devices,
        topics: SharedTopics,
        requests: Requests,
        liveness: Liveness,
    ) -> None:
        self._membership = membership
        self._members = members
        self._rooms = rooms
        self._devices = devices
        self._topics = topics
        self._requests = requests
        self._liveness = liveness
        self._leaving: set[asyncio.Task[None]] = set()

    # Join

    async def join(self, member: Member, join: Join, message: bytes, started: float) -> None:
        """Enter a room, or take the place of another connection in it.

        Args:
            member: the client.
            join: the decoded message.
            message: the bytes of the message.
            started: time at which it arrived, as `perf_counter` has it.
        """
        if join.resume_token is not None:
            join = structs.replace(join, resume_token=records.digest(join.resume_token))
        member.started = started
        contest = await self._enter(member, join, lambda rooms, peer, _: rooms.join(peer, join))
        if contest is not None:
            self._contest(member, join, message, contest)

    def _contest(self, member: Member, join: Join, message: bytes, contest: Contest) -> None:
        holder = contest.holder
        assert isinstance(holder, SharedPeer)
        mark = member.contested = (object(), join.room)
        place = (holder.instance, holder.number)
        self._membership.spawn(self._settle(member, join, message, place, mark))

    async def _settle(
        self, member: Member, join: Join, message: bytes, place: tuple[str, int], mark: tuple[object, str]
    ) -> None:
        """Have the holder of a contested peer id pinged, then decide by the result."""
        alive = await self._liveness.is_alive(*place)

        async def settle() -> None:
            if member.contested is not mark:
                self._rooms.joins["abandoned"] += 1
                return
            member.contested = None

            def decide(rooms: Rooms, peer: SharedPeer, transaction: Transaction) -> list[Effect]:
                holder = transaction.peer(*place)
                if holder is None or holder.room is None:
                    holder = SharedPeer(*place)  # the holder has left its place in the meantime
                peer.contest = Contest(holder, peer, join)
                return rooms.settle(peer.contest, alive)

            contest = await self._enter(member, join, decide)
            if contest is not None:
                self._contest(member, join, message, contest)

        await self._requests.fulfil(member, settle(), message)

    async def _enter(
        self, member: Member, join: Join, decide: Callable[[Rooms, SharedPeer, Transaction], list[Effect]]
    ) -> Contest | None:
        """Decide on a join; return the contest that must be settled first, or None."""
        self._requests.require()
        contests: list[Contest] = []
        before = member.user_id

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            contests.clear()
            # While the instances enter their clients again, a room may lack peers.
            if transaction.loaded.filling:
                raise unavailable()
            peer = self._members.peer_or_newcomer(transaction, member)
            effects = decide(transaction.rooms, peer, transaction)
            if effects and isinstance(effects[0], Contest):
                contests.append(effects[0])
                return [], []
            # Before the changes are written, so that a concurrent count of devices is right.
            self._devices.users.identify(member, peer.user_id)
            return effects, self._devices.changes(before, peer.user_id)

        names = {join.room} | ({member.room.name} if member.room is not None else set())
        try:
            transaction = await self._decide(member, names, Focus(join.room, join.peer_id), decision)
        except Unreachable:
            self._devices.doubtful |= {user for user in (before, member.user_id) if user is not None}
            self._devices.users.identify(member, before)
            raise
        if contests:
            return contests[0]
        self._members.set_room(member, transaction, join.room, join.peer_id)
        member.entered += 1
        return None

    # In a room

    async def change(self, member: Member, act: Callable[[Rooms, SharedPeer], list[Effect]]) -> None:
        """Change a client's metadata, or the session of its room."""
        self._requests.require()
        room = member.room
        if room is None:
            act(self._rooms.domain, self._members.newcomer(member))  # raises the error
            return

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            return act(transaction.rooms, self._members.peer_or_newcomer(transaction, member)), []

        transaction = await self._decide(member, {room.name}, Focus(room.name, member.info.peer_id), decision)
        self._members.set_room(member, transaction, room.name, member.info.peer_id)

    def received(self, member: Member, number: int) -> None:
        """Drop the messages that a peer has received: the first `number` since its last `joined`."""
        if member.tokens is None:
            return
        last = member.tokens.current.start + number
        if member.tokens.former is not None:
            self._membership.spawn(self._confirm(member, last))
        elif number and member.room is not None:
            self._membership.post(scripts.CONFIRM, member.room.name, member.info.peer_id, member.number, last)

    async def _confirm(self, member: Member, number: int) -> None:
        """Drop the token of the former `joined`, because the last `joined` of a peer has arrived."""
        async with member.lock:
            room, peer_id = member.room, member.info.peer_id
            if room is None or member.closed:
                return

            def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
                peer = self._members.peer_of(transaction, member)
                if peer is None or peer.resumption is None:
                    return [], []
                peer.resumption.former = None
                return [], [("drop", room.name, peer_id, number)]

            with suppress(Unreachable):
                transaction = await self._rooms.decide([room.name], Focus(room.name, peer_id), decision)
                self._members.set_room(member, transaction, room.name, peer_id)

    # Leave

    async def leave(self, member: Member, leave: Leave) -> None:
        """Leave the room, if the client is in it."""
        room = member.room
        if room is None or leave.room not in (None, room.name):
            return
        self._requests.require()

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            return transaction.rooms.leave(self._members.peer_or_newcomer(transaction, member)), []

        await self._decide(member, {room.name}, Focus(room.name, member.info.peer_id), decision)
        self._members.clear_room(member)

    def end(self, member: Member) -> None:
        """Leave the room and all topics, because the connection has ended."""
        leaving = self._membership.spawn(self._end(member))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def all_left(self) -> None:
        """Wait until all ended connections have left their rooms and topics, for at most `DRAIN` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _end(self, member: Member) -> None:
        """Leave the room and all topics. While Redis does not answer, try again."""
        async with member.lock:
            await self._topics.unsubscribe(member, [*member.topics, *member.awaited])
            user = member.user_id
            self._devices.users.identify(member, None)
            while True:
                try:
                    await self._leave_for_good(member)
                    await self._devices.count(user)
                except Unreachable:
                    await asyncio.sleep(PAUSE)
                else:
                    break
        self._members.leaving.pop(member.number, None)

    async def _leave_for_good(self, member: Member) -> None:
        names = set(member.unsure)
        if member.room is not None:
            names.add(member.room.name)
        for name in names:
            await self._leave_room(member, name)
        member.unsure.clear()
        self._members.clear_room(member)

    async def _leave_room(self, member: Member, name: str) -> None:
        known = member.room is not None and name == member.room.name

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            peer = self._members.peer_of(transaction, member)
            if peer is None:
                return [], []
            # Before rooms are compared, it is not known which messages were lost with the data of Redis: no resumption.
            unclear = member.stale or (transaction.loaded.filling and not member.knows(transaction.rooms.rooms[name]))
            if not member.keeps or unclear:
                return transaction.rooms.forget(peer), []
            if member.tokens is not None and member.entered == member.joined:
                peer.received = member.tokens.current.start + member.counted
            return transaction.rooms.lose(peer), []

        await self._rooms.decide([name], Focus(name, member.info.peer_id if known else ""), decision)

    async def _decide(self, member: Member, names: set[str], focus: Focus, decision: Decision) -> Transaction:
        """Make a decision. If the answer is lost, record the rooms that the client may be in."""
        try:
            return await self._rooms.decide(names, focus, decision)
        except Unreachable as error:
            if error.sent:
                member.unsure |= names
            raise
