"""Recovery: enters clients again and gives up places, after an outage of an instance or of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..rooms.model import Effect
from . import scripts
from .changes import Change
from .devices import Devices
from .link import PAUSE, Run
from .members import BROKEN, Member, Members
from .membership import Membership, Recovery
from .model import Focus, SharedPeer
from .redis_connection import Unreachable
from .rooms import SharedRooms
from .script_queue import Args
from .topics import SharedTopics
from .transaction import Transaction

AT_ONCE = 64
"""Rooms that are entered again, compared or swept at the same time."""


class SharedRecovery(Recovery):
    """Enters the clients of this instance again, and gives up the places of clients that are gone.

    Args:
        membership: the membership of this instance.
        members: the connections of this instance.
        rooms: the rooms of all instances.
        devices: the devices of users at this instance.
        topics: the topics that clients of this instance are subscribed to.
    """

    def __init__(
        self, membership: Membership, members: Members, rooms: SharedRooms, devices: Devices, topics: SharedTopics
    ) -> None:
        self._membership = membership
        self._members = members
        self._rooms = rooms
        self._devices = devices
        self._topics = topics

    # After an outage of this instance

    def fenced(self) -> None:
        """Close all clients, because another instance has given up their places."""
        for member in list(self._members.connected.values()):
            self._members.clear_room(member)
            member.topics.clear()
            member.awaited.clear()
            member.unsure.clear()
            self._devices.users.identify(member, None)
            member.disconnect(1013, "This server was away for too long. Connect again.", "unavailable")
        self._topics.topics.clear()
        self._members.leaving.clear()

    # After an outage of Redis

    async def restore(self, run: Run, *, empty: bool) -> None:
        """Write the counts that Redis lacks, or may lack. If it is empty, enter all clients again."""
        if empty:
            self._topics.doubtful.update(self._topics.topics)
            self._devices.doubtful.update(self._devices.users.devices)
        while self._topics.doubtful or self._devices.doubtful:  # clients may leave in the meantime
            await self._count_again(run)
        if empty:
            self._membership.spawn(self._enter_all_again())

    async def _count_again(self, run: Run) -> None:
        topics, self._topics.doubtful = self._topics.doubtful, set()
        users, self._devices.doubtful = self._devices.doubtful, set()
        counts: list[Args] = [("topic", name, len(self._topics.topics.get(name, ()))) for name in topics]
        counts += [("user", name, len(self._devices.of(name))) for name in users]
        try:
            await run([(scripts.RECOUNT, args) for args in counts])
        except BaseException:
            self._topics.doubtful |= topics
            self._devices.doubtful |= users
            raise

    async def _enter_all_again(self) -> None:
        done = False
        while not done:
            done = await self._for_each_room(self._enter_again)
            if not done:
                await asyncio.sleep(PAUSE)

    async def _enter_again(self, name: str) -> None:
        peers = self._members.rooms[name].peers.values()
        members = [member for member in peers if isinstance(member, Member) and not member.closed]
        refused: list[Member] = []

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            refused.clear()
            for member in members:
                if self._members.peer_of(transaction, member) is not None:
                    continue
                peer = self._members.newcomer(member)
                tokens = None if member.tokens is None else member.tokens.afresh(member.counted)
                # New clients do not learn of peers that are entered again, so there may be none yet.
                if not transaction.loaded.filling or not transaction.enter(
                    name, peer, member.info, self._members.rooms[name], tokens
                ):
                    refused.append(member)
            return [], []

        transaction = await self._rooms.decide([name], Focus(name, ""), decision)
        for member in members:
            if member in refused:
                self._members.clear_room(member)
                member.disconnect(1013, BROKEN, "unavailable")
            else:
                self._members.set_room(member, transaction, name, member.info.peer_id)

    async def compare(self) -> bool:
        """Close clients whose room differs from the messages they got: others left or joined during the outage.

        New clients are still refused, unless this instance is slow; see `Delivery`.
        """
        return await self._for_each_room(self._compare)

    async def _compare(self, name: str) -> None:
        transaction = await self._rooms.load([name], Focus(name, ""))
        room = transaction.rooms.rooms.get(name)
        for member in list(self._members.rooms[name].peers.values()):
            if isinstance(member, Member) and (room is None or not member.knows(room)):
                member.close_stale()

    # After an outage of other instances

    async def sweep(self, instance: str, rooms: list[str]) -> None:
        """Give up the places of a dead instance. Peers that can resume become absent, the others leave."""

        async def sweep(name: str) -> None:
            while (place := await self._sweep_next(instance, name)) is not None:
                await self._sweep_place(instance, name, place)

        await _at_once(sweep, rooms)

    async def _sweep_next(self, instance: str, name: str) -> str | None:
        """Return the peer id of a peer of a dead instance in a room; None if there is none."""
        places: list[str] = []

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            dead = [one for one in transaction.peers() if one.absent is None and one.instance == instance]
            places[:] = [peer.info.peer_id for peer in dead]
            return [], [] if dead else [("hasnt", instance, name)]

        await self._rooms.decide([name], Focus(name, ""), decision)
        return places[0] if places else None

    async def _sweep_place(self, instance: str, name: str, place: str) -> None:
        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            room = transaction.rooms.rooms.get(name)
            peer = None if room is None else room.peers.get(place)
            if isinstance(peer, SharedPeer) and peer.absent is None and peer.instance == instance:
                return transaction.rooms.lose(peer), []
            return [], []

        await self._rooms.decide([name], Focus(name, place), decision)

    async def give_up(self, name: str, peer_id: str) -> None:
        """Remove an absent peer whose grace is over."""

        def decision(transaction: Transaction) -> tuple[list[Effect], list[Change]]:
            room = transaction.rooms.rooms.get(name)
            peer = None if room is None else room.peers.get(peer_id)
            if not isinstance(peer, SharedPeer) or peer.absent is None or peer.record is None:
                return [], [("back", name, peer_id)]
            if peer.record.absence is not None and peer.record.absence.until > transaction.loaded.now:
                return [], []
            return transaction.rooms.give_up(peer), [("back", name, peer_id)]

        await self._rooms.decide([name], Focus(name, peer_id), decision)

    async def _for_each_room(self, act: Callable[[str], Awaitable[None]]) -> bool:
        """Call `act` for each room with clients of this instance; return whether Redis answered each time."""
        failed: list[str] = []

        async def safely(name: str) -> None:
            if name in self._members.rooms:
                try:
                    await act(name)
                except Unreachable:
                    failed.append(name)

        await _at_once(safely, list(self._members.rooms))
        return not failed


async def _at_once(act: Callable[[str], Awaitable[None]], names: list[str]) -> None:
    for start in range(0, len(names), AT_ONCE):
        await asyncio.gather(*map(act, names[start : start + AT_ONCE]))
