"""Yjs in pycrdt: the calls that are made on bytes from outside, and what they fail with.

pycrdt's core (yrs) refuses most bad updates cleanly. Some pass its decoder and fail while they are
integrated, a few of these as a Rust panic; the document is then half changed and not to be trusted.
"""

from collections.abc import Callable
from typing import Any

import pycrdt
from pycrdt import Doc, Transaction

from .protocol import MalformedError, read_varuint
from .update import MAX_CLOCK, NOTHING, read_deletions


class DamagedError(Exception):
    """A document that failed while it was changed; it must be built again from its updates."""


def begin(doc: Doc[Any]) -> Transaction:
    """Begin a transaction: what is applied until `commit` is observed as one update."""
    transaction = doc.transaction()
    transaction.__enter__()
    return transaction


def apply(doc: Doc[Any], update: bytes) -> None:
    """Apply an update of which `update.read` says that it is one.

    Raises:
        MalformedError: yrs says that it is not; the document is as before.
        DamagedError: it failed on the way.
    """
    try:
        doc.apply_update(update)
    except ValueError as error:
        raise MalformedError(f"not a Yjs update: {error}") from None
    except BaseException as error:
        raise _damage(error) from None


def commit(transaction: Transaction) -> None:
    """End a transaction.

    Raises:
        DamagedError: it failed on the way.
    """
    try:
        transaction.__exit__(None, None, None)
    except BaseException as error:
        raise _damage(error) from None


def state_vector(doc: Doc[Any]) -> bytes:
    """Return how much of every client `doc` has, encoded.

    Raises:
        DamagedError: it failed.
    """
    try:
        return doc.get_state()
    except BaseException as error:
        raise _damage(error) from None


def state(doc: Doc[Any]) -> bytes:
    """Return all of `doc` as one update.

    Raises:
        DamagedError: it failed.
    """
    try:
        return doc.get_update()
    except BaseException as error:
        raise _damage(error) from None


def contains(doc: Doc[Any], update: bytes) -> bool:
    """Return whether `doc`, which was given `update`, has all of it, and nothing of it waits in it.

    Raises:
        DamagedError: it is not sound.
    """
    has = state_vector(doc)
    try:
        # What is left without what the document has: structs, and all deletions.
        rest = pycrdt.get_update(update, has)
        if rest[:1] != b"\x00":
            return False
        clocks = decode_state_vector(has)
        return all(end <= clocks.get(client, 0) for client, _, end in read_deletions(rest, 1))
    except (ValueError, MalformedError) as error:
        raise DamagedError(str(error)) from None
    except BaseException as error:
        raise _damage(error) from None


def difference(doc: Doc[Any], state_vector: bytes) -> bytes:
    """Return the update that brings a document at `state_vector` to where `doc` is.

    Raises:
        MalformedError: this is not a state vector.
    """
    clients, _ = read_varuint(state_vector, 0)
    if clients > len(state_vector):
        # yrs would make room for them before it finds that they are not there.
        raise MalformedError("not a state vector: it ends before its content does")
    try:
        return doc.get_update(state_vector)
    except ValueError as error:
        raise MalformedError(f"not a state vector: {error}") from None
    except BaseException as error:
        raise _damage(error) from None


def decode_state_vector(state_vector: bytes) -> dict[int, int]:
    """Return for every client how much of it is known.

    Raises:
        MalformedError: this is not a state vector.
    """
    count, at = read_varuint(state_vector, 0)
    clocks = {}
    for _ in range(count):
        client, at = read_varuint(state_vector, at)
        clocks[client], at = read_varuint(state_vector, at)
        if clocks[client] > MAX_CLOCK:
            raise MalformedError("not a state vector: a clock is too large")
    return clocks


def _damage(error: BaseException) -> BaseException:
    """Return what to raise for a failure of yrs; a Rust panic is a BaseException without a public name."""
    if isinstance(error, RuntimeError) or type(error).__name__ == "PanicException":
        return DamagedError(str(error))
    return error


Observer = Callable[[bytes], None]


def observe(doc: Doc[Any], observer: Observer) -> Callable[[], None]:
    """Call `observer` with every update that changes `doc`; return what ends that."""

    def emitted(event: pycrdt.TransactionEvent) -> None:
        if event.update != NOTHING:
            observer(event.update)

    subscription = doc.observe(emitted)
    return lambda: doc.unobserve(subscription)
