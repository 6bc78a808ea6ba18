"""Updates (format 1): what clients send and what is stored. Reading one proves that Yjs can decode all of it.

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
"""The update that changes nothing."""

MAX_CLOCK = 2**32 - 1
BLOCK = 128
"""Structs that are read at once."""
STEP_SIZE = 262_144
"""Bytes of structs that are read at once."""


class Run(NamedTuple):
    """Structs of one client without a gap between them.

    Attributes:
        client: whose they are.
        clock: of the first element.
        end: the clock behind the last one.
        structs: how many there are.
        at: the offset of the first one in the update.
        stop: the offset behind the last one.
    """

    client: int
    clock: int
    end: int
    structs: int
    at: int
    stop: int


class Mark(NamedTuple):
    """A place within a long run, from which it can be read.

    Attributes:
        at: the offset of a struct.
        clock: of its first element.
        left: structs from here to the end of the run.
    """

    at: int
    clock: int
    left: int


class Deletion(NamedTuple):
    """Elements of one client that are deleted, from `clock` to before `end`. There may be none."""

    client: int
    clock: int
    end: int


class Edit(NamedTuple):
    """An update of one struct and no more than one deletion, as typing and setting a value make it.

    Attributes:
        run: the struct.
        deletion: the deletion, if there is one.
        stop: the offset behind the update.
    """

    run: Run
    deletion: Deletion | None
    stop: int


class Collector(Protocol):
    """Takes what an update has, in its order."""

    def run(self, run: Run) -> None:
        """Take a run; the marks within it came before."""

    def mark(self, mark: Mark) -> None:
        """Take a mark."""

    def deletion(self, deletion: Deletion) -> None:
        """Take a deletion."""


class Parts:
    """The parts of an update as lists: a collector for updates that are not large."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.deletions: list[Deletion] = []
        self.run = self.runs.append
        self.deletion = self.deletions.append

    def mark(self, mark: Mark) -> None:
        """Forget a mark."""


def read_edit(data: bytes) -> Edit | None:
    """Read an update that is an edit; return None if it is another one or none at all, and has to be read with `read`.

    Nearly all updates are edits, so this is done without the steps that longer ones need.
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
    """Read an update; what follows its end is ignored, as Yjs does.

    Args:
        data: the update.
        parts: is given what it has.

    Returns:
        the offset behind it.

    Raises:
        MalformedError: Yjs could not decode it, or a clock is too large.
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
        first, start, number = clock, at, 0  # of the run
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
    """Refuse an update in which a client has two sections: Yjs would forget the first one.

    Raises:
        MalformedError: a client stands in `clients` twice.
    """
    if (yield from is_sorted(clients, int.__gt__)):  # as Yjs writes them
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
            parts.deletion(Deletion(client, 0, 0))  # its ranges are not in one piece, which `in_order` sees by this
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
    """Return whether a deletion may follow `last` in an update that is handed on as it is.

    Yjs fails on a deletion of nothing, and damages others that are not sorted, where their elements have not come yet
    (``readAndApplyDeleteSet`` encodes those as differences). yrs forgets the first ranges of a client that comes twice.
    """
    if deletion.clock == deletion.end:
        return False
    if last is None or deletion.client < last.client:
        return True
    return deletion.client == last.client and deletion.clock > last.end


def write(sections: Sequence[bytes], clients: int = 0, deletions: bytes = b"") -> bytes:
    """Return an update.

    Args:
        sections: of one client each, as `write_section` makes them.
        clients: how many clients the delete set has.
        deletions: their deletions, as `write_deletions` makes them.
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
