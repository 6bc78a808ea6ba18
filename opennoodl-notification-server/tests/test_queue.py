"""The queue: batches in which everybody has a turn, and each connection's requests keep their order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from opennoodl_notification.edge.websocket.flow_control import ReadPause
from opennoodl_notification.messages import (
    Authenticate,
    DeleteAll,
    DeleteNotification,
    GetNotifications,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    RevokeNotification,
    SendNotification,
)
from opennoodl_notification.queue import (
    BATCH,
    MAX_ADDRESS_QUEUED,
    READ_FACTOR,
    REQUEST_SIZE,
    SHARE,
    TURN,
    UNKNOWN_SIZE,
    Queue,
    QueuePause,
    Request,
)

from .desk import Device

READ, WRITE = GetNotifications(), MarkAllRead()


def device(user: str | None, address: str = "192.0.2.1") -> Device:
    """Return a device of a user."""
    device = Device()
    device.user, device.address = user, address
    return device


def to(number: int) -> SendNotification:
    """Return a sending to so many users."""
    return SendNotification("invite", target_user_ids=tuple(str(user) for user in range(number)))


def put(queue: Queue, device: Device, *messages: Any, size: int = 10) -> None:
    """Let a device ask."""
    for message in messages:
        queue.add(Request(device, message, size, 0.0))


class Flood(Device):
    """A device that sends on as soon as it is read from.

    Args:
        queue: where it asks.
        address: where it is.

    Attributes:
        sent: its requests.
    """

    def __init__(self, queue: Queue, address: str) -> None:
        super().__init__()
        self.address = address
        self.sent = 0
        self._queue = queue

    def flood(self) -> None:
        """Send until it is not read from."""
        while not self.read_pauses:
            self.sent += 1
            put(self._queue, self, WRITE)

    def resume_reading(self, reason: ReadPause) -> None:
        """Send on."""
        super().resume_reading(reason)
        self.flood()


def taken(queue: Queue, device: Device) -> list[Any]:
    """Return what the next batch has of a device."""
    return [request.incoming for request in queue.take() if request.device is device]


def test_oldest_request_is_known() -> None:
    """The queue knows when the oldest of all requests came; each connection's first one is its oldest."""
    queue, one, two = Queue({}), device("u"), device("v")
    assert queue.oldest() is None
    for of, since in ((one, 5.0), (two, 4.0), (two, 9.0)):
        queue.add(Request(of, WRITE, 0, since))
    assert queue.oldest() == 4


def test_requests_of_a_connection_keep_their_order() -> None:
    """Requests of one connection are handled in their order, between those of others."""
    queue, one, two = Queue({}), device("u"), device("v")
    asked = [MarkAllRead() for _ in range(4)]
    for message in asked:
        put(queue, one, message)
        put(queue, two, WRITE)
    batch = queue.take()
    of_one = [request.incoming for request in batch if request.device is one]
    assert all(mine is message for mine, message in zip(of_one, asked, strict=True))
    assert len(batch) == 8


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ([WRITE, WRITE, READ, READ], 4),
        ([READ, WRITE], 1),
        ([WRITE, READ, READ, WRITE, READ], 3),
        ([Authenticate(user_id="u"), READ, WRITE], 2),
    ],
)
def test_change_after_a_read_waits_for_the_next_batch(asked: list[Any], first: int) -> None:
    """A change after a read of the same connection waits for the next batch, with all that follows."""
    queue, one, other = Queue({}), device("u"), device("v")
    put(queue, one, *asked)
    put(queue, other, WRITE)
    assert taken(queue, one) == asked[:first]
    assert taken(queue, one) == asked[first:]


def test_client_with_many_requests_gets_a_share() -> None:
    """A client with very many requests gets a share of each batch, beside the others."""
    queue, flood, other = Queue({}), device("flood"), device("u")
    put(queue, flood, *[WRITE] * 1000)
    put(queue, other, WRITE)
    batch = queue.take()
    assert len(batch) == SHARE + 1
    assert batch[TURN].device is other


def test_share_of_a_user() -> None:
    """A user's connections have one share together; strangers have one each."""
    queue, several, strangers = Queue({}), [device("u") for _ in range(3)], [device(None) for _ in range(2)]
    for one in several:
        put(queue, one, *[WRITE] * SHARE)
    assert len(queue.take()) == SHARE
    for one in strangers:
        put(queue, one, *[READ] * BATCH)
    assert len(queue.take()) == BATCH


def test_sending_weighs_as_many_as_its_users() -> None:
    """A sending takes as much of a batch as it has users."""
    queue, flood, other = Queue({}), device("flood"), device("u")
    put(queue, flood, *[to(60)] * 10)
    put(queue, other, WRITE)
    batch = queue.take()
    assert [len(request.incoming.targets) for request in batch if isinstance(request.incoming, SendNotification)] == [
        60,
        60,
    ]
    assert batch[1].device is other


@pytest.mark.parametrize("kind", [MarkRead, MarkUnread, DeleteNotification, RevokeNotification])
def test_message_weighs_as_many_as_its_ids(kind: Any) -> None:
    """A message takes as much of a batch as it names notifications, each once."""
    queue, flood, other = Queue({}), device("flood"), device("u")
    ids = tuple(str(number) for number in range(60))
    put(queue, flood, *[kind(notification_id="0", notification_ids=ids)] * 10)
    put(queue, other, *[kind(notification_id="0")] * SHARE)
    batch = queue.take()
    assert Counter(request.device for request in batch) == {flood: 2, other: 80}


@pytest.mark.parametrize("addresses", [1, BATCH])
def test_next_batch_begins_with_the_client_left_out(addresses: int) -> None:
    """The next batch begins with the client whose turn it is, at the same address or at another one."""
    queue = Queue({})
    devices = [device(str(number), f"192.0.2.{number % addresses}") for number in range(BATCH // TURN + 2)]
    for one in devices:
        put(queue, one, *[WRITE] * (TURN + 1))
    assert [request.device for request in queue.take()[::TURN]] == devices[:-2]
    assert [request.device for request in queue.take()[::TURN][:2]] == devices[-2:]


def test_addresses_take_turns() -> None:
    """A client is in the next batch, right after a turn of another address, however many requests that has made."""
    queue, honest = Queue({}), device("honest", "192.0.2.2")
    for number in range(BATCH):
        put(queue, device(f"flood {number}"), *[WRITE] * BATCH)
    put(queue, honest, *[WRITE] * 2 * TURN)
    batch = queue.take()
    places = [number for number, request in enumerate(batch) if request.device is honest]
    assert places == [*range(TURN, 2 * TURN), *range(3 * TURN, 4 * TURN)]
    assert len(batch) == BATCH


def test_networks_of_a_customer_have_one_turn() -> None:
    """All addresses of an IPv6 /64 network have one turn together."""
    queue, honest = Queue({}), device("honest", "2001:db8:1::1")
    for number in range(BATCH):
        put(queue, device(f"flood {number}", f"2001:db8:0:0::{number:x}"), WRITE)
    put(queue, honest, WRITE)
    assert queue.take()[1].device is honest


def test_full_address_is_not_read_from() -> None:
    """An address may have so many requests in the queue; its connections that send more are not read from."""
    queue = Queue({})
    floods, other = [Flood(queue, "192.0.2.1") for _ in range(3)], device("other", "192.0.2.2")
    for one in floods:
        one.flood()
    full = len(queue)
    assert (full - len(floods)) * (REQUEST_SIZE + 10) <= MAX_ADDRESS_QUEUED < full * (REQUEST_SIZE + 10)
    for _ in range(5):
        put(queue, other, WRITE)
        assert (other.read_pauses, [len(one.read_pauses) for one in floods]) == (set(), [1, 1, 1])
        assert len(queue.take()) > SHARE
        assert len(queue) <= full


def test_paused_connections_take_turns() -> None:
    """When half of an address's requests are handled, the connection that has waited longest is read from."""
    queue = Queue({})
    floods = [Flood(queue, "192.0.2.1") for _ in range(3)]
    for one in floods:
        one.flood()
    order = []
    while len(order) < 4:
        before, size = [one.sent for one in floods], queue.size
        taken = sum(request.size for request in queue.take())
        for one, sent in zip(floods, before, strict=True):
            if one.sent > sent:
                order.append(one)
                assert size - taken <= MAX_ADDRESS_QUEUED // 2
    assert order == [*floods, floods[0]]


def test_paused_connections_are_read_when_nothing_is_left() -> None:
    """No connection stays paused when the queue is empty."""
    queue, several = Queue({}), [device(f"user {number}") for number in range(3)]
    for one in several:
        put(queue, one, WRITE, size=MAX_ADDRESS_QUEUED)
    assert [one.read_pauses for one in several] == [set(QueuePause)] * 3
    queue.take()
    assert [one.read_pauses for one in several] == [set()] * 3


def test_queue_counts_requests_and_bytes() -> None:
    """The queue knows how many requests it has, and how many bytes."""
    queue, one = Queue({}), device("u")
    put(queue, one, READ, WRITE, size=7)
    assert (len(queue), queue.size) == (2, 2 * (REQUEST_SIZE + 7))
    queue.take()
    assert (len(queue), queue.size) == (1, REQUEST_SIZE + 7)
    queue.take()
    assert (len(queue), queue.size, queue.take()) == (0, 0, [])


@pytest.mark.parametrize(
    ("message", "size", "taken"),
    [
        (READ, 10, SHARE),
        (READ, 50 * READ_FACTOR, 2),
        (GetNotifications(limit=50 * READ_FACTOR), 100 * READ_FACTOR, 2),
        (GetNotifications(limit=10), 50 * READ_FACTOR, SHARE),
        (GetNotifications(limit=10, unread_only=True), 50 * READ_FACTOR, 2),
        (Authenticate(user_id="u"), 50 * READ_FACTOR, 2),
        (Authenticate(user_id="another"), 0, SHARE * READ_FACTOR // UNKNOWN_SIZE),
    ],
)
def test_read_weighs_what_it_may_look_at(message: Any, size: int, taken: int) -> None:
    """A read takes a part of a batch for the notifications that it may have to look at."""
    queue, one = Queue({"u": size}), device("u")
    put(queue, one, *[message] * BATCH)
    assert len(queue.take()) == taken


@pytest.mark.parametrize("kind", [MarkAllRead, DeleteAll])
@pytest.mark.parametrize(("size", "taken"), [(0, SHARE), (1, SHARE), (SHARE // 4, 4), (10 * SHARE, 1)])
def test_all_of_an_inbox(kind: Any, size: int, taken: int) -> None:
    """A request about a whole inbox takes as much of a batch as the inbox has notifications."""
    queue, one = Queue({"u": size}), device("u")
    put(queue, one, *[kind()] * 1000)
    assert len(queue.take()) == taken


def test_all_of_a_strangers_inbox() -> None:
    """A request about a whole inbox from an unauthenticated connection takes as little as an empty inbox."""
    queue, stranger = Queue({"u": 1000}), device(None)
    put(queue, stranger, *[DeleteAll()] * 10)
    assert len(queue.take()) == 10
