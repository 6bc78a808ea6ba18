"""Users: the connections of each user, and invites between users. Knows no socket."""

from .edge.errors import BadMessage
from .edge.limits import Quota
from .edge.metrics import Counts
from .messages import Invite, InviteFrom, InviteSent, Register, Registered
from .rooms.model import Client, Effect, Send

INVITES = ("delivered", "offline", "rate-limited")
"""Labels of the outcomes of invites."""
USERS_OF_AN_ADDRESS = 10
"""The factor by which an address may send more invites than a user. A client can invent users, but not addresses."""


class Users:
    """All users of this process that have a connection.

    Args:
        invites_per_hour: invites that one user may send in an hour; one address may send `USERS_OF_AN_ADDRESS` times
            as many. 0 means any number.

    Attributes:
        devices: by user, the connections that receive invites.
        invites: invites by outcome.
    """

    def __init__(self, invites_per_hour: int) -> None:
        self.devices: dict[str, set[Client]] = {}
        self.invites = Counts(INVITES)
        self._invites = Quota(invites_per_hour, 3600)
        self._invites_from = Quota(USERS_OF_AN_ADDRESS * invites_per_hour, 3600)

    def identify(self, client: Client, user_id: str | None) -> None:
        """Set the user of a client, under which it receives invites; None if it receives none."""
        if client.user_id == user_id:
            return
        if client.user_id is not None:
            devices = self.devices[client.user_id]
            devices.discard(client)
            if not devices:
                del self.devices[client.user_id]
        client.user_id = user_id
        if user_id is not None:
            self.devices.setdefault(user_id, set()).add(client)

    def register(self, client: Client, register: Register) -> list[Effect]:
        """Set the user of a client that is in no room; return the answer."""
        self.identify(client, register.user_id)
        return [Send((client,), Registered(register.user_id))]

    def invite(self, client: Client, invite: Invite, now: float) -> list[Effect]:
        """Send an invite to every connection of a user, and send the sender whether the user is online.

        Args:
            client: the sender.
            invite: the invite.
            now: the current time in seconds since 1970.

        Raises:
            BadMessage: `not-registered` or `rate-limited`.
        """
        sender = client.user_id
        if sender is None:
            raise not_registered()
        # The address is counted first: this bounds the number of users that the quota remembers.
        allowed = self._invites_from.allow(client.address, now)
        if allowed and not self._invites.allow(sender, now):
            self._invites_from.give_back(client.address)
            allowed = False
        if not allowed:
            self.invites["rate-limited"] += 1
            raise invites_used_up()
        target = invite.target_user_id
        devices = self.devices.get(target)
        self.invites["delivered" if devices else "offline"] += 1
        if not devices:
            return [Send((client,), InviteSent(target, False, "User offline"))]
        message = InviteFrom(from_=sender, room_id=invite.room_id, session_info=invite.session_info)
        return [Send(devices, message), Send((client,), InviteSent(target, True))]


def not_registered() -> BadMessage:
    """Return the error for an invite from a client without a user."""
    return BadMessage("not-registered", "Join a room or register before you invite.")


def invites_used_up() -> BadMessage:
    """Return the error for an invite over the limit."""
    return BadMessage("rate-limited", "You or your address have reached INVITES_PER_HOUR.")
