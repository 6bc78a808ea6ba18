"""The devices: the connections of each user, and the messages to them."""

from collections.abc import Callable, Collection, KeysView, Mapping, Sequence
from typing import Protocol

from msgspec import UNSET, Raw, Struct, UnsetType, structs

from .edge.auth.identity import Identity
from .edge.errors import BadMessage
from .edge.peer import Receiver
from .edge.websocket.flow_control import ReadPause
from .inbox.batch import Outcome
from .messages import Answer, Event, UpToDate
from .records import Inbox


class Device(Receiver, Protocol):
    """A connection, as far as inboxes use it."""

    address: str
    """Its network address."""
    user: str | None
    """The authenticated user."""
    identity: Identity | None
    """The user of its token, if there was one in the handshake."""

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent to it."""

    def set_identity(self, identity: Identity) -> None:
        """Authenticate the connection as this identity, until its token expires."""

    def set_deadline(self, seconds: None) -> None:
        """Cancel the deadline for `authenticate`."""

    def pause_reading(self, reason: ReadPause) -> None:
        """Stop reading from it, until `resume_reading` was called for every reason."""

    def resume_reading(self, reason: ReadPause) -> None:
        """Remove a reason; read again if there is no other."""


class Sender(Protocol):
    """Writes messages to connections."""

    def send(self, to: tuple[Device, ...], message: Struct) -> int:
        """Send one message to some connections; return its bytes."""

    def send_all(self, messages: Sequence[tuple[tuple[Device, ...], Struct]]) -> int:
        """Send messages in this order, each to some connections; return their bytes."""

    def refuse(self, receiver: Device, bad: BadMessage) -> None:
        """Send the error for a message to its connection."""


class Devices:
    """The connections of authenticated users.

    Args:
        sender: writes the messages.
        most: limit of the devices of one user; 0 means no limit.

    Attributes:
        sizes: the number of notifications of each user with a device.
        sequences: by user, the sequence number of the inbox that was sent; the same for all devices of a user.
        moved: is called with a user who has one device more or less.
    """

    def __init__(self, sender: Sender, most: int) -> None:
        self._sender = sender
        self._most = most
        self._of_users: dict[str, set[Device]] = {}
        self._users: dict[Device, str] = {}
        self._behind: set[Device] = set()
        self.sizes: dict[str, int] = {}
        self.sequences: dict[str, int] = {}
        self.moved: Callable[[str], None] = _ignore

    def __len__(self) -> int:
        """Return the number of users with a device."""
        return len(self._of_users)

    def of(self, user: str) -> tuple[Device, ...]:
        """Return the devices of a user."""
        return tuple(self._of_users.get(user, ()))

    def check_limit(self, device: Device, user: str, elsewhere: int) -> None:
        """Check the limit of devices for a connection.

        Args:
            device: the connection, which may be a device of the user already.
            user: the user to add it to.
            elsewhere: the number of the user's devices at other instances.

        Raises:
            BadMessage: the user has as many devices as allowed.
        """
        devices = self._of_users.get(user, ())
        if self._most and len(devices) + elsewhere >= self._most and device not in devices:
            text = f"The limit of connections of one user is {self._most}: close one of them and authenticate again."
            raise BadMessage("too-many-connections", text)

    def add(self, device: Device, inbox: Inbox, *, behind: bool) -> None:
        """Make a connection a device of the inbox's user; remove it from any other user.

        Args:
            device: the connection.
            inbox: the state of the inbox, as the user's other devices know it.
            behind: whether it has sent `since` and has not got all missed changes yet.
        """
        self.remove(device)
        user = inbox.user_id
        self._users[device] = user
        self._of_users.setdefault(user, set()).add(device)
        self.know(user, inbox.sequence, inbox.total)
        if behind:
            self._behind.add(device)
        self.moved(user)

    def remove(self, device: Device) -> None:
        """Remove a device."""
        self._behind.discard(device)
        user = self._users.pop(device, None)
        if user is None:
            return
        self._of_users[user].discard(device)
        if not self._of_users[user]:
            del self._of_users[user]
            del self.sizes[user], self.sequences[user]
        self.moved(user)

    def enter(self, device: Device, user: str) -> None:
        """Authenticate a connection as this user."""
        device.user = user
        if device.identity is None:
            device.set_deadline(None)
        else:
            device.set_identity(device.identity)

    def is_behind(self, device: Device) -> bool:
        """Return whether a device has sent `since` and has not got all missed changes yet."""
        return device in self._behind

    @property
    def users(self) -> KeysView[str]:
        """The users with a device."""
        return self._of_users.keys()

    def settle(self, inboxes: Mapping[str, Inbox], forgotten: Collection[str]) -> None:
        """Record the states of inboxes after a batch, directly before its events are sent.

        Args:
            inboxes: the inboxes by user.
            forgotten: users whose inboxes were deleted.
        """
        for user in inboxes.keys() & self._of_users.keys():
            inbox = inboxes[user]
            self.sequences[user], self.sizes[user] = 0 if user in forgotten else inbox.sequence, inbox.total

    def know(self, user: str, sequence: int, size: int) -> None:
        """Record the state that was sent to the devices of a user.

        Args:
            user: a user with devices.
            sequence: the sequence number of the inbox that they know.
            size: the number of notifications in the inbox.
        """
        self.sequences[user], self.sizes[user] = sequence, size

    def send_event(self, user: str, event: Event) -> None:
        """Send an event to the devices of a user."""
        if devices := self._of_users.get(user):
            self._sender.send(tuple(devices), event)

    def deliver(self, outcome: Outcome, device: Device, request_id: Raw | UnsetType) -> None:
        """Send the events and the answers of a request; an event that is the answer carries its `requestId`.

        Args:
            outcome: the stored result of the request.
            device: the connection of the request.
            request_id: the `requestId` of its message.
        """
        answered = outcome.answered and request_id is not UNSET
        messages: list[tuple[tuple[Device, ...], Struct]] = []
        for user, event in outcome.events:
            devices = self._of_users.get(user)
            if devices and answered:
                devices = devices - {device}
            if devices:
                messages.append((tuple(devices), event))
            if answered:
                messages.append(((device,), _with_id(event, request_id)))
        messages += (((device,), _with_id(reply, request_id)) for reply in outcome.replies)
        self._sender.send_all(messages)

    def answer(self, device: Device, answer: Answer, request_id: Raw | UnsetType = UNSET) -> int:
        """Send an answer to a connection; return its bytes.

        Args:
            device: the connection.
            answer: the answer.
            request_id: the `requestId` of its message, which the answer carries.
        """
        if isinstance(answer, UpToDate):
            self._behind.discard(device)
        return self._sender.send((device,), _with_id(answer, request_id))

    def refuse(self, device: Device, bad: BadMessage) -> None:
        """Send the error for a message to its connection."""
        self._sender.refuse(device, bad)


def _with_id(answer: Answer, request_id: Raw | UnsetType) -> Answer:
    return answer if request_id is UNSET else structs.replace(answer, request_id=request_id)


def _ignore(_user: str) -> None:
    """Do nothing."""
