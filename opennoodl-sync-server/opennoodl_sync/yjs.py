"""Yjs documents, through pycrdt: every call on bytes that came from outside is made here.

pycrdt's core (yrs) refuses most bad updates cleanly. Some pass its decoder and fail while they are
integrated, a few of these as a Rust panic; the document is then half changed and not to be trusted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pycrdt
from pycrdt import Doc

from .protocol import MalformedError, read_varuint

NOTHING = b"\x00\x00"
"""The update that changes nothing."""


MERGE_AT_ONCE = 64


class DamagedError(Exception):
    """A document that failed while it was changed; it must be built again from its updates."""


def apply(doc: Doc[Any], update: bytes) -> None:
    """Apply `update` to `doc`.

    Raises:
        MalformedError: it is not a Yjs update; the document is as before.
        DamagedError: it failed on the way.
    """
    clients, _ = read_varuint(update, 0)
    if clients > len(update):
        # yrs would make room for them before it finds that they are not there.
        raise MalformedError("not a Yjs update: it ends before its content does")
    try:
        doc.apply_update(update)
    except ValueError as error:
        raise MalformedError(f"not a Yjs update: {error}") from None
    except BaseException as error:
        if isinstance(error, RuntimeError) or _is_panic(error):
            raise DamagedError(str(error)) from None
        raise


def build(updates: Iterable[bytes]) -> Doc[Any]:
    """Return the document that is the merge of `updates`.

    Raises:
        DamagedError: one of them is not sound.
    """
    return load(updates)[0]


def load(updates: Iterable[bytes]) -> tuple[Doc[Any], list[bytes]]:
    """Return the document that is the merge of `updates`, and those of them that wait for others.

    Each is a transaction of its own, as when it came: what is sound after a deletion need not be before it.

    Raises:
        DamagedError: one of them is not sound.
    """
    doc: Doc[Any] = Doc()
    updates = list(updates)
    try:
        for update in updates:
            apply(doc, update)
        held = waiting(updates, doc)
        while held and apply_again(doc, held):
            held = waiting(held, doc)
    except MalformedError as error:
        raise DamagedError(str(error)) from None
    return doc, held


def apply_again(doc: Doc[Any], held: Sequence[bytes]) -> bool:
    """Give a document the updates `held` that it was given before; return whether that changed it.

    When an update comes that others waited for, yrs 0.28 may integrate only some of those.

    Raises:
        DamagedError: one of them is not sound.
    """
    before = doc.get_state()
    try:
        apply(doc, merge(held))
    except MalformedError as error:
        raise DamagedError(str(error)) from None
    return doc.get_state() != before


def difference(doc: Doc[Any], state_vector: bytes) -> bytes:
    """Return the update that brings a document at `state_vector` to where `doc` is.

    Raises:
        MalformedError: this is not a state vector.
    """
    try:
        clients, _ = read_varuint(state_vector, 0)
        if clients > len(state_vector):
            raise MalformedError("not a state vector: it ends before its content does")
        with _panics():
            return doc.get_update(state_vector)
    except (ValueError, RuntimeError) as error:
        raise MalformedError(f"not a state vector: {error}") from None


def merge(updates: Sequence[bytes]) -> bytes:
    """Return one update that does what `updates` do together.

    Raises:
        DamagedError: one of them is not sound.
    """
    while len(updates) > MERGE_AT_ONCE:  # the time that one merge takes grows faster than their number
        updates = [merge(updates[at : at + MERGE_AT_ONCE]) for at in range(0, len(updates), MERGE_AT_ONCE)]
    if len(updates) == 1:
        return updates[0]
    try:
        with _panics():
            return pycrdt.merge_updates(*updates)
    except (ValueError, RuntimeError) as error:
        raise DamagedError(str(error)) from None


def waiting(updates: Iterable[bytes], doc: Doc[Any]) -> list[bytes]:
    """Return those of `updates` of which `doc`, though it was given them, lacks a part.

    Yjs holds back what depends on something it has not seen. What is held back is in no state and in no
    answer, so whoever wants to keep it must keep the update.

    Raises:
        DamagedError: one of them is not sound.
    """
    state_vector = doc.get_state()
    known = decode_state_vector(state_vector)
    try:
        with _panics():
            return [update for update in updates if _is_waiting(update, state_vector, known)]
    except (ValueError, RuntimeError, MalformedError) as error:
        raise DamagedError(str(error)) from None


def decode_state_vector(state_vector: bytes) -> dict[int, int]:
    """Return for every client how much of it is known.

    Raises:
        MalformedError: this is not a state vector.
    """
    return dict(_pairs(state_vector, 0)[0])


def _is_waiting(update: bytes, state_vector: bytes, known: dict[int, int]) -> bool:
    rest = pycrdt.get_update(update, state_vector)
    if rest[:1] != b"\x00":
        return True  # structs that the document does not have
    clients, at = read_varuint(rest, 1)
    for _ in range(clients):
        client, at = read_varuint(rest, at)
        ranges, at = _pairs(rest, at)
        if any(clock + length > known.get(client, 0) for clock, length in ranges):
            return True  # deletions of structs that the document does not have
    return False


def _pairs(data: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    count, at = read_varuint(data, at)
    pairs = []
    for _ in range(count):
        first, at = read_varuint(data, at)
        second, at = read_varuint(data, at)
        pairs.append((first, second))
    return pairs, at


@contextmanager
def _panics() -> Iterator[None]:
    """Turn a Rust panic into a RuntimeError."""
    try:
        yield
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise RuntimeError(f"panic: {error}") from None


def _is_panic(error: BaseException) -> bool:
    """Return whether this is a Rust panic: for Python a BaseException, of a class that has no public name."""
    return type(error).__name__ == "PanicException"


Observer = Callable[[bytes], None]


def observe(doc: Doc[Any], observer: Observer) -> Callable[[], None]:
    """Call `observer` with every update that changes `doc`; return what ends that."""

    def emitted(event: pycrdt.TransactionEvent) -> None:
        if event.update != NOTHING:
            observer(event.update)

    subscription = doc.observe(emitted)
    return lambda: doc.unobserve(subscription)
