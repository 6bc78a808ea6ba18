"""The devices: the connections of each user, and the messages to them."""

from collections.abc import Callable, Collection, KeysView, Mapping
from typing import Any, Protocol

from msgspec import UNSET, Raw, Struct, UnsetType, structs

from .edge.auth.identity import Identity
from .edge.errors import BadMessage
from .edge.peer import Receiver
from .edge.websocket.flow_control import ReadPause
from .inbox.batch import Outcome
from .messages import Answer, Event, UpToDate
from .records import Inbox


class Device(Receiver, Protocol):
    """A connection, as far as inboxes know it."""

    address: str
    """Its network address."""
    session: Any
    """The user who has authenticated on it, or None."""
    identity: Identity | None
    """The user that its token proves, if it has shown one."""

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent to it."""

    def set_identity(self, identity: Identity) -> None:
        """Take it to be this user, until the token expires."""

    def set_deadline(self, seconds: None) -> None:
        """Cancel the deadline for `authenticate`."""

    def pause_reading(self, reason: ReadPause) -> None:
        """Stop reading from it, until `resume_reading` was called for every reason."""

    def resume_reading(self, reason: ReadPause) -> None:
        """Read from it again, unless there is another reason not to."""


class Sender(Protocol):
    """Writes messages to connections."""

    def send(self, to: tuple[Device, ...], message: Struct) -> int:
        """Send one message to some connections; return its bytes."""

    def refuse(self, receiver: Device, bad: BadMessage) -> None:
        """Tell a connection what was wrong with its message."""


class Devices:
    """The connections of users who have authenticated.

    Args:
        sender: what writes to them.
        most: devices that a user may have at once; 0 means any number.

    Attributes:
        sizes: how many notifications each user with a device has.
        sequences: the number of the inbox, as the devices of each user know it; all of a user know the same one.
        moved: what is called with a user who has one device more or less.
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
        """Return how many users have a device."""
        return len(self._of_users)

    def of(self, user: str) -> tuple[Device, ...]:
        """Return the devices of a user."""
        return tuple(self._of_users.get(user, ()))

    def check_limit(self, device: Device, user: str, elsewhere: int) -> None:
        """Refuse a connection that would be one device too many.

        Args:
            device: the connection, which may be a device of the user already.
            user: whose device it would be.
            elsewhere: devices of the user at other instances.

        Raises:
            BadMessage: the user has as many devices as one may have.
        """
        devices = self._of_users.get(user, ())
        if self._most and len(devices) + elsewhere >= self._most and device not in devices:
            text = f"This user has {self._most} connections already; close one of them and authenticate again."
            raise BadMessage("too-many-connections", text)

    def add(self, device: Device, inbox: Inbox, *, behind: bool) -> None:
        """Make a connection a device of the inbox's user, and of nobody else.

        Args:
            device: the connection.
            inbox: what it is told of, as the user's other devices know it.
            behind: whether it has given `since`, and has yet to be told that it has everything.
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
        """Forget a device."""
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
        """Let a connection do everything as this user from now on."""
        device.session = user
        if device.identity is None:
            device.set_deadline(None)
        else:
            device.set_identity(device.identity)

    def is_behind(self, device: Device) -> bool:
        """Return whether a device has given `since` and has not been told yet that it has everything."""
        return device in self._behind

    @property
    def users(self) -> KeysView[str]:
        """Those who have a device."""
        return self._of_users.keys()

    def settle(self, inboxes: Mapping[str, Inbox], forgotten: Collection[str]) -> None:
        """Take note of the states of inboxes after a batch, whose events are told right after this.

        Args:
            inboxes: by user.
            forgotten: users whose inboxes have gone.
        """
        for user in inboxes.keys() & self._of_users.keys():
            inbox = inboxes[user]
            self.sequences[user], self.sizes[user] = 0 if user in forgotten else inbox.sequence, inbox.total

    def know(self, user: str, sequence: int, size: int) -> None:
        """Take note of what the devices of a user have been told.

        Args:
            user: who has devices.
            sequence: the number of the inbox that they know.
            size: how many notifications the user has by then.
        """
        self.sequences[user], self.sizes[user] = sequence, size

    def tell(self, user: str, event: Event) -> None:
        """Send an event to the devices of a user."""
        if devices := self._of_users.get(user):
            self._sender.send(tuple(devices), event)

    def deliver(self, outcome: Outcome, device: Device, request_id: Raw | UnsetType) -> None:
        """Send the events and the answers of a request; an event that is the answer carries its `requestId`.

        Args:
            outcome: what the request has led to, and is stored.
            device: the connection that asked.
            request_id: of its message.
        """
        answered = outcome.answered and request_id is not UNSET
        for user, event in outcome.events:
            devices = self._of_users.get(user)
            if devices and answered:
                devices = devices - {device}
            if devices:
                self._sender.send(tuple(devices), event)
            if answered:
                self.answer(device, event, request_id)
        for reply in outcome.replies:
            self.answer(device, reply, request_id)

    def answer(self, device: Device, answer: Answer, request_id: Raw | UnsetType = UNSET) -> int:
        """Send an answer to a connection; return its bytes.

        Args:
            device: the connection.
            answer: what it is told.
            request_id: the `requestId` of its message, which the answer carries.
        """
        if request_id is not UNSET:
            answer = structs.replace(answer, request_id=request_id)
        if isinstance(answer, UpToDate):
            self._behind.discard(device)
        return self._sender.send((device,), answer)

    def refuse(self, device: Device, bad: BadMessage) -> None:
        """Tell a connection what was wrong with its message."""
        self._sender.refuse(device, bad)


def _ignore(_user: str) -> None:
    """Tell nobody of a user's devices."""
