"""Devices: the connections of users at this instance, and invites between users of all instances."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from msgspec import Raw, UnsetType

from ..edge.messages import encode, request_id
from ..messages import Invite, InviteFrom, InviteSent, Register, Registered
from ..sender import Sender
from ..users import USERS_OF_AN_ADDRESS, Users, invites_used_up, not_registered
from . import records, scripts
from .changes import Change
from .members import Member
from .membership import Membership
from .redis_connection import Unreachable
from .requests import Requests, unavailable


class Devices:
    """The devices of users at this instance. Redis counts them for all instances.

    Args:
        membership: the membership of this instance.
        requests: sends errors to clients.
        sender: sends all other messages.
        invites_per_hour: invites that one user may send in an hour; 0 means any number.

    Attributes:
        users: the users with a connection at this instance.
        doubtful: users whose number of devices in Redis may be wrong, because an answer was lost.
    """

    def __init__(self, membership: Membership, requests: Requests, sender: Sender, invites_per_hour: int) -> None:
        self.users = Users(0)
        self.doubtful: set[str] = set()
        self._membership = membership
        self._requests = requests
        self._sender = sender
        self._invites_per_hour = invites_per_hour

    def of(self, user: str) -> Collection[Member]:
        """Return the connections of a user at this instance."""
        return self.users.devices.get(user, ())  # type: ignore[return-value]  # all clients here are members

    def changes(self, before: str | None, after: str | None) -> list[Change]:
        """Return the changes in Redis after the user of a client has changed from `before` to `after`."""
        names = {user for user in (before, after) if user is not None} if before != after else set()
        return [("user", self._membership.instance, name, len(self.of(name))) for name in names]

    async def register(self, member: Member, register: Register) -> None:
        """Set the user of a client that is in no room, and answer it.

        Raises:
            BadMessage: `unavailable`; the connection to Redis is lost.
            Unreachable: Redis does not answer.
        """
        self._requests.require()
        before = member.user_id
        self.users.identify(member, register.user_id)
        try:
            await self.count(before, register.user_id)
        except Unreachable:
            self.users.identify(member, before)
            raise
        if not member.closed:
            self._sender.relay((member,), encode(Registered(register.user_id)), "registered")

    async def count(self, *users: str | None) -> None:
        """Write the number of devices that users have at this instance to Redis.

        Raises:
            Unreachable: Redis does not answer.
        """
        names = {user for user in users if user is not None}
        try:
            for name in names:
                await self._membership.ask(scripts.RECOUNT, "user", name, len(self.of(name)))
        except Unreachable:
            self.doubtful |= names
            raise

    def invite(self, member: Member, invite: Invite, message: bytes) -> None:
        """Send an invite to all devices of a user at all instances.

        Raises:
            BadMessage: `not-registered`, or `unavailable` if the connection to Redis is lost.
        """
        sender = member.user_id
        if sender is None:
            raise not_registered()
        self._requests.require()
        per_hour = self._invites_per_hour
        invitation = InviteFrom(from_=sender, room_id=invite.room_id, session_info=invite.session_info)
        target = invite.target_user_id
        entry = records.encode(("invite", target, encode(invitation)))
        answer = self._membership.call(
            scripts.INVITE, member.address, sender, target, entry, USERS_OF_AN_ADDRESS * per_hour, per_hour
        )
        answer.add_done_callback(partial(self._invited, member, target, request_id(message)))

    def _invited(self, member: Member, target: str, echoed: Raw | UnsetType, answer: asyncio.Future[bytes]) -> None:
        """Answer the sender of an invite."""
        if not self._membership.has_run(answer):
            self._requests.refuse(member, unavailable(), echoed)
            return
        outcome = answer.result()
        if outcome == b"limited":
            self.users.invites["rate-limited"] += 1
            self._requests.refuse(member, invites_used_up(), echoed)
            return
        delivered = outcome == b"delivered"
        self.users.invites["delivered" if delivered else "offline"] += 1
        if not member.closed:
            sent = InviteSent(target, True) if delivered else InviteSent(target, False, "User offline")
            self._sender.relay((member,), encode(sent), "invite-sent")
