"""Updates (format 1) of clients and of the store. `read` checks that Yjs can decode all of an update.

Source of the format: yjs 13, ``utils/encoding.js`` (``readClientsStructRefs``) and ``utils/DeleteSet.js``.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from .contents import LongContentError
from .lib0 import MalformedError, Steps, read_varuint, write_varuint
from .sorting import is_sorted, order
from .structs import KIND, SKIP, cut_struct, read_client, read_struct, struct_end

NOTHING = b"\x00\x00"
"""The update without any change."""

MAX_CLOCK = 2**32 - 1
BLOCK = 128
"""Structs of one step."""
STEP_SIZE = 262_144
"""Bytes of structs of one step."""


class Run(NamedTuple):
    """Structs of one client without a gap between them.

    Attributes:
        client: the client id.
        clock: the clock of the first element.
        end: the clock after the last element.
        structs: the number of structs.
        at: the offset of the first struct in the update.
        stop: the offset after the last struct.
    """

    client: int
    clock: int
    end: int
    structs: int
    at: int
    stop: int


class Mark(NamedTuple):
    """A position within a long run where reading can start.

    Attributes:
        at: the offset of a struct.
        clock: the clock of its first element.
        left: the number of structs from here to the end of the run.
    """

    at: int
    clock: int
    left: int


class Deletion(NamedTuple):
    """Deleted elements of one client, from `clock` to before `end`; the range may be empty."""

    client: int
    clock: int
    end: int


class Edit(NamedTuple):
    """An update of one struct and at most one deletion, such as from typing or setting a value.

    Attributes:
        run: the struct.
        deletion: the deletion, or None.
        stop: the offset after the update.
    """

    run: Run
    deletion: Deletion | None
    stop: int


class Collector(Protocol):
    """Receives the parts of an update, in its order."""

    def run(self, run: Run) -> None:
        """Receive a run; its marks came before."""

    def mark(self, mark: Mark) -> None:
        """Receive a mark."""

    def deletion(self, deletion: Deletion) -> None:
        """Receive a deletion."""


class Parts:
    """The parts of an update as lists: a collector for small updates."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.deletions: list[Deletion] = []
        self.run = self.runs.append
        self.deletion = self.deletions.append

    def mark(self, mark: Mark) -> None:
        """Ignore a mark."""


def read_edit(data: bytes) -> Edit | None:
    """Read an update that is an edit; return None for any other bytes, which `read` must handle.

    Nearly all updates are edits. This function is faster than `read`, since it has no steps.
    """
    if data[:2] != b"\1\1":
        return None
    try:
        client, at = read_client(data, 2)
        clock, start = data[at], at + 1
        if clock > 0x7F:
            clock, start = read_varuint(data, at)
        length, stop = read_struct(data, start, client, clock)
        deletion = None
        if data[stop]:
            if data[stop] > 1:
                return None
            other, at = read_client(data, stop + 1)
            if data[at] != 1:
                return None
            first, at = read_varuint(data, at + 1)
            count, at = read_varuint(data, at)
            deletion = Deletion(other, first, first + count)
        else:
            at = stop + 1
    except (IndexError, MalformedError, LongContentError):
        return None
    end = clock + length
    if data[start] & KIND == SKIP or end > MAX_CLOCK or (deletion is not None and deletion.end > MAX_CLOCK):
        return None
    return Edit(Run(client, clock, end, 1, start, stop), deletion, at)


def read(data: bytes, parts: Collector) -> Steps[int]:
    """Read an update; bytes after its end are ignored, as in Yjs.

    Args:
        data: the update.
        parts: receives the parts of the update.

    Returns:
        the offset after the update.

    Raises:
        MalformedError: Yjs could not decode the update, or a clock is too large.
    """
    try:
        at = yield from _read_structs(data, parts)
        return (yield from _read_deletions(data, at, parts))
    except IndexError:
        raise MalformedError("not a Yjs update: it ends before its content does") from None
    except MalformedError as error:
        raise MalformedError(f"not a Yjs update: {error}") from None


def _read_structs(data: bytes, parts: Collector) -> Steps[int]:
    sections, at = read_varuint(data, 0)
    clients = array("Q")
    for section in range(sections):
        if section % BLOCK == BLOCK - 1:
            yield
        structs, at = read_varuint(data, at)
        client, at = read_client(data, at)
        clients.append(client)
        clock, at = read_varuint(data, at)
        first, start, number = clock, at, 0  # of the current run
        yielded = at
        for block in range(0, structs, BLOCK):
            if block:
                parts.mark(Mark(at, clock, structs - block))
                yield
            for passed in range(block, min(block + BLOCK, structs)):
                here = at
                try:
                    length, at = read_struct(data, at, client, clock)
                except LongContentError as long:
                    length, at = yield from long.steps
                if data[here] & KIND == SKIP:
                    if passed > number:
                        parts.run(Run(client, first, clock, passed - number, start, here))
                    clock += length
                    first, start, number = clock, at, passed + 1
                else:
                    clock += length
                if at - yielded > STEP_SIZE:
                    yielded = at
                    yield
        if clock > MAX_CLOCK:
            raise MalformedError("a clock is too large")
        if structs > number:
            parts.run(Run(client, first, clock, structs - number, start, at))
    if sections > 1:
        yield from _refuse_repeated(clients)
    return at


def _refuse_repeated(clients: "array[int]") -> Steps[None]:
    """Check that no client has two sections in an update: Yjs would ignore the first one.

    Raises:
        MalformedError: a client is in `clients` twice.
    """
    if (yield from is_sorted(clients, int.__gt__)):  # the order of Yjs
        return
    last = -1
    for number, position in enumerate((yield from order(clients))):
        if clients[position] == last:
            raise MalformedError(f"client {last} comes twice")
        last = clients[position]
        if number % BLOCK == BLOCK - 1:
            yield


def _read_deletions(data: bytes, at: int, parts: Collector) -> Steps[int]:
    clients, at = read_varuint(data, at)
    seen = 0
    last = -1
    for _ in range(clients):
        client, at = read_client(data, at)
        ranges, at = read_varuint(data, at)
        if client == last:
            parts.deletion(Deletion(client, 0, 0))  # marks a repeated client for `in_order`
        last = client
        seen += 1
        for _ in range(ranges):
            clock, at = read_varuint(data, at)
            length, at = read_varuint(data, at)
            if clock + length > MAX_CLOCK:
                raise MalformedError("a clock is too large")
            parts.deletion(Deletion(client, clock, clock + length))
            seen += 1
            if seen % BLOCK == 0:
                yield
        if seen % BLOCK == 0:
            yield
    return at


def in_order(deletion: Deletion, last: Deletion | None) -> bool:
    """Return whether a deletion may follow `last` in an update that is forwarded unchanged.

    Yjs fails on an empty deletion. It damages unsorted deletions of missing elements (``readAndApplyDeleteSet`` encodes
    those as differences). yrs ignores the first ranges of a repeated client.
    """
    if deletion.clock == deletion.end:
        return False
    if last is None or deletion.client < last.client:
        return True
    return deletion.client == last.client and deletion.clock > last.end


def write(sections: Sequence[bytes], clients: int = 0, deletions: bytes = b"") -> bytes:
    """Return an encoded update.

    Args:
        sections: the section of each client, see `write_section`.
        clients: the number of clients in the delete set.
        deletions: their deletions, see `write_deletions`.
    """
    return b"".join((write_varuint(len(sections)), *sections, write_varuint(clients), deletions))


def write_section(client: int, clock: int, structs: int, content: bytes | bytearray) -> bytes:
    """Return the section of a client: so many `structs`, the first of which begins at `clock`."""
    return b"".join((write_varuint(structs), write_varuint(client), write_varuint(clock), content))


def write_deletions(deletions: Mapping[int, Sequence[int]]) -> bytes:
    """Return the deletions of clients; of each, the `bounds` are clock, end, clock, end and so on."""
    return b"".join(
        write_varuint(client) + write_varuint(len(bounds) // 2) + write_ranges(bounds)
        for client, bounds in deletions.items()
    )


def write_ranges(bounds: Sequence[int]) -> bytes:
    """Return the ranges of one client in a delete set."""
    pairs = iter(bounds)
    return b"".join(
        [write_varuint(clock) + write_varuint(end - clock) for clock, end in zip(pairs, pairs, strict=True)]
    )


def cut_run(data: bytes, run: Run, clock: int) -> Steps[tuple[int, bytes, int]]:
    """Cut a run at `clock`, which is within it.

    Returns:
        how many structs come from there on, the bytes of the first one, which may itself be cut, and the offset of
        the second one.
    """
    at, here = run.at, run.clock
    for passed in range(run.structs):
        length, behind = yield from struct_end(data, at, run.client, here)
        if here + length > clock:
            left = run.structs - passed
            if here == clock:
                return left, data[at:behind], behind
            first = yield from cut_struct(data, at, run.client, here, clock - here)
            if len(first) > STEP_SIZE:
                yield
            return left, first, behind
        if passed % BLOCK == BLOCK - 1 or behind - at > STEP_SIZE // BLOCK:
            yield
        at, here = behind, here + length
    raise ValueError("the clock is not in the run")
