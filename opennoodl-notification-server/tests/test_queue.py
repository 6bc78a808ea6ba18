"""The queue: batches in which everybody has a turn, and each connection's requests keep their order."""

from __future__ import annotations

from typing import Any

import pytest
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
from opennoodl_notification.queue import BATCH, SHARE, Queue, Request

from .desk import Device

READ, WRITE = GetNotifications(), MarkAllRead()


def device(user: str | None) -> Device:
    """Return a device of a user."""
    device = Device()
    device.session = user
    return device


def to(number: int) -> SendNotification:
    """Return a sending to so many users."""
    return SendNotification("invite", target_user_ids=tuple(str(user) for user in range(number)))


def put(queue: Queue, device: Device, *messages: Any, size: int = 10) -> None:
    """Let a device ask."""
    for message in messages:
        queue.add(Request(device, message, size, 0.0))


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
    assert batch[-1].device is other


def test_share_of_a_user() -> None:
    """A user's connections have one share together; strangers have one each."""
    queue, several, strangers = Queue({}), [device("u") for _ in range(3)], [device(None) for _ in range(2)]
    for one in several:
        put(queue, one, *[WRITE] * SHARE)
    assert len(queue.take()) == SHARE
    for one in strangers:
        put(queue, one, *[READ] * SHARE)
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
    assert batch[-1].device is other


@pytest.mark.parametrize("kind", [MarkRead, MarkUnread, DeleteNotification, RevokeNotification])
def test_message_weighs_as_many_as_its_ids(kind: Any) -> None:
    """A message takes as much of a batch as it names notifications, each once."""
    queue, flood, other = Queue({}), device("flood"), device("u")
    ids = tuple(str(number) for number in range(60))
    put(queue, flood, *[kind(notification_id="0", notification_ids=ids)] * 10)
    put(queue, other, *[kind(notification_id="0")] * SHARE)
    batch = queue.take()
    assert [request.device for request in batch] == [flood] * 2 + [other] * 80


def test_next_batch_begins_with_the_client_left_out() -> None:
    """The next batch begins with the client that a full batch left out."""
    queue, floods, late = Queue({}), [device(str(number)) for number in range(3)], device("late")
    for one in (*floods, late):
        put(queue, one, *[WRITE] * 1000)
    assert {request.device for request in queue.take()} == set(floods[:2])
    assert {request.device for request in queue.take()} == {floods[2], late}


def test_queue_counts_requests_and_bytes() -> None:
    """The queue knows how many requests it has, and how many bytes."""
    queue, one = Queue({}), device("u")
    put(queue, one, READ, WRITE, size=7)
    assert (len(queue), queue.bytes) == (2, 14)
    queue.take()
    assert (len(queue), queue.bytes) == (1, 7)
    queue.take()
    assert (len(queue), queue.bytes, queue.take()) == (0, 0, [])


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
