"""Hints: the messages that instances of one database send each other after each commit. Knows no socket.

A hint is a list: the instance, the hint's number, and then items. Each instance numbers its hints, so the others detect
a lost one. A lost hint does no harm: they then compare all sequence numbers with the database.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from .edge.messages import encode
from .messages import AllRead, Cleared, Deleted, Event, Received, Updated

MOST = 7_500
"""Bytes of one hint; PostgreSQL accepts less than 8,000."""


FRAME = 128
"""Upper limit of the bytes of a hint besides users and events."""


class Change(Struct, array_like=True, frozen=True, tag="change"):
    """An inbox has changed.

    Attributes:
        user: the owner of the inbox.
        before: its sequence number before the change.
        after: its sequence number after the change; 0 if the inbox was deleted.
        events: the events for devices, in order; None if they do not fit into a hint.
    """

    user: str
    before: int
    after: int
    events: tuple[Raw, ...] | None


class Sends(Struct, array_like=True, frozen=True, tag="sends"):
    """A user has sent notifications, which count for the user's quota.

    Attributes:
        user: the user who has sent them.
        address: the address of the user's connection.
        number: the number of notifications.
        size: their bytes.
    """

    user: str
    address: str
    number: int
    size: int


class Growth(Struct, array_like=True, frozen=True, tag="growth"):
    """The change of the numbers of stored notifications and bytes."""

    notifications: int
    size: int


class Present(Struct, array_like=True, frozen=True, tag="present"):
    """The present number of a user's devices at the instance."""

    user: str
    devices: int


class Recount(Struct, array_like=True, frozen=True, tag="recount"):
    """All numbers of devices at the instance are invalid; it sends them again."""


class Hello(Struct, array_like=True, frozen=True, tag="hello"):
    """The instance has started to listen; the others send it their numbers of devices."""


Item = Change | Sends | Growth | Present | Recount | Hello

_decode = msgspec.json.Decoder(list[str | int | Item]).decode
_decode_event: Any = msgspec.json.Decoder(Received | Updated | AllRead | Deleted | Cleared).decode


class Hint(Struct):
    """A message from one instance to the others.

    Attributes:
        instance: the name of the sending instance.
        number: the number of its earlier hints.
        items: the content.
    """

    instance: str
    number: int
    items: list[Item]


def changed(user: str, before: int, after: int, events: Iterable[Event]) -> Change:
    """Return the change of an inbox, with its events if they fit into a hint."""
    encoded: list[Raw] = []
    left = MOST - FRAME - len(encode(user))
    for event in events:
        encoded.append(Raw(encode(event)))
        left -= len(encoded[-1]) + 1
        if left < 0:
            return Change(user, before, after, None)
    return Change(user, before, after, tuple(encoded))


def size_of(item: Item) -> int:
    """Return the approximate bytes of an item."""
    return FRAME + (sum(map(len, item.events or ())) if isinstance(item, Change) else 0)


def events_of(change: Change) -> list[Event]:
    """Return the events of a change. DecodeError: they are from another version of this server."""
    return [_decode_event(event) for event in change.events or ()]


def pack(instance: str, number: int, items: Iterable[Item]) -> Iterator[str]:
    """Yield hints with these items, in their order; there is at least one.

    Args:
        instance: the name of this instance.
        number: the number of the first hint.
        items: the items.
    """
    parts: list[bytes] = []
    size = 0
    for item in items:
        part = encode(item)
        if size + len(part) + 1 > MOST - FRAME // 2:
            yield _joined(instance, number, parts)
            parts, size, number = [], 0, number + 1
        parts.append(part)
        size += len(part) + 1
    yield _joined(instance, number, parts)


def _joined(instance: str, number: int, parts: list[bytes]) -> str:
    return (b"[%b]" % b",".join([encode(instance), encode(number), *parts])).decode()


def unpack(hint: str) -> Hint:
    """Decode a hint. ValidationError or DecodeError: it is from another version of this server."""
    instance, number, *items = _decode(hint)
    if not isinstance(instance, str) or not isinstance(number, int):
        raise msgspec.ValidationError("a hint begins with an instance and a number")
    return Hint(instance, number, [item for item in items if isinstance(item, Struct)])
