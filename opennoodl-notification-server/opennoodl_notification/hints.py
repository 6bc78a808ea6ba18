"""Hints: what instances that use one database tell each other after each commit. Knows no socket.

A hint is a list: the instance, its number, and then items. Hints of an instance are numbered, so that the others notice
if one is lost. A lost hint does no harm: whoever misses one compares all numbers with the database.
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
"""Bytes of a hint, or less, that are neither a user nor events."""


class Change(Struct, array_like=True, frozen=True, tag="change"):
    """An inbox has changed.

    Attributes:
        user: whose it is.
        before: its number before the change.
        after: its number after it; 0 if the inbox was forgotten.
        events: what devices are told, in order; None if that is too long for a hint.
    """

    user: str
    before: int
    after: int
    events: tuple[Raw, ...] | None


class Sends(Struct, array_like=True, frozen=True, tag="sends"):
    """A user has sent notifications, which counts for the user's quota.

    Attributes:
        user: who has sent.
        address: where the user is.
        number: of notifications.
        size: their bytes.
    """

    user: str
    address: str
    number: int
    size: int


class Growth(Struct, array_like=True, frozen=True, tag="growth"):
    """How many notifications, and bytes, are stored more than before."""

    notifications: int
    size: int


class Present(Struct, array_like=True, frozen=True, tag="present"):
    """How many devices of a user are at the instance by now."""

    user: str
    devices: int


class Recount(Struct, array_like=True, frozen=True, tag="recount"):
    """Forget how many devices are at the instance: it tells so for all of its users anew."""


class Hello(Struct, array_like=True, frozen=True, tag="hello"):
    """The instance has begun to listen: it asks the others to tell how many devices they have."""


Item = Change | Sends | Growth | Present | Recount | Hello

_decode = msgspec.json.Decoder(list[str | int | Item]).decode
_decode_event: Any = msgspec.json.Decoder(Received | Updated | AllRead | Deleted | Cleared).decode


class Hint(Struct):
    """What one instance tells the others.

    Attributes:
        instance: which one it is.
        number: how many hints it has sent before.
        items: what it tells.
    """

    instance: str
    number: int
    items: list[Item]


def changed(user: str, before: int, after: int, events: Iterable[Event]) -> Change:
    """Return an inbox's change, with the events if a hint has room for them."""
    encoded: list[Raw] = []
    left = MOST - FRAME - len(encode(user))
    for event in events:
        encoded.append(Raw(encode(event)))
        left -= len(encoded[-1]) + 1
        if left < 0:
            return Change(user, before, after, None)
    return Change(user, before, after, tuple(encoded))


def size_of(item: Item) -> int:
    """Return about how many bytes an item takes."""
    return FRAME + (sum(map(len, item.events or ())) if isinstance(item, Change) else 0)


def events_of(change: Change) -> list[Event]:
    """Return the events of a change. DecodeError: they are of another version of this server."""
    return [_decode_event(event) for event in change.events or ()]


def pack(instance: str, number: int, items: Iterable[Item]) -> Iterator[str]:
    """Yield hints with these items, in their order; there is at least one.

    Args:
        instance: which one tells this.
        number: of the first hint.
        items: what it tells.
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
    """Return what a hint says. ValidationError or DecodeError: it is of another version of this server."""
    instance, number, *items = _decode(hint)
    if not isinstance(instance, str) or not isinstance(number, int):
        raise msgspec.ValidationError("a hint begins with an instance and a number")
    return Hint(instance, number, [item for item in items if isinstance(item, Struct)])
