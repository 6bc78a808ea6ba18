"""Pending structs: structs with missing dependencies. Yjs stores them too: ``StructStore.pendingStructs``.

Source: yjs 13, ``utils/StructStore.js`` and ``utils/encoding.js`` (``integrateStructs``, ``readUpdateV2``).
"""

from bisect import bisect_right
from typing import NamedTuple

from .lib0 import Steps, write_varuint
from .structs import SKIP
from .update import Run, cut_run, write, write_section

RUN_SIZE = 4096
"""Bytes that a pending run counts in addition to its own, since each run makes every answer to step 1 longer."""


class WaitingRun(NamedTuple):
    """A pending run, with its structs.

    Attributes:
        clock: the clock of the first element.
        end: the clock after the last element.
        structs: the number of structs.
        content: the encoded structs.
    """

    clock: int
    end: int
    structs: int
    content: bytes


class PendingRuns:
    """Runs of structs after a gap. The runs of one client do not overlap.

    Attributes:
        size: the bytes that they count.
    """

    def __init__(self) -> None:
        self._runs: dict[int, list[WaitingRun]] = {}
        self.size = 0

    def __contains__(self, client: int) -> bool:
        return client in self._runs

    def clients(self) -> list[int]:
        """Return the clients with pending runs."""
        return list(self._runs)

    def cost(self, run: Run) -> int:
        """Return the bytes that a run would add to `size`; 0 if it is pending already."""
        runs = self._runs.get(run.client, [])
        at = bisect_right(runs, run.clock, key=_clock)
        if at and runs[at - 1].end >= run.end:
            return 0
        return run.stop - run.at + RUN_SIZE

    def add(self, run: Run, content: bytes) -> Steps[tuple[bytes | None, bool]]:
        """Add a run.

        Returns:
            an update with the new part of the run, or None; and whether the whole run is new.
        """
        client, clock, end, structs = run[:4]
        runs = self._runs.setdefault(client, [])
        at = bisect_right(runs, clock, key=_clock)
        if at and runs[at - 1].end > clock:
            known = runs[at - 1].end
            if known >= end:
                return None, False
            clock, _, structs, content = yield from _rest(client, WaitingRun(clock, end, structs, content), known)
        whole = clock == run.clock
        while at < len(runs) and runs[at].clock < end:
            later = runs.pop(at)
            whole = False
            self.size -= len(later.content) + RUN_SIZE
            if later.end > end:
                rest = yield from _rest(client, later, end)
                runs.insert(at, rest)
                self.size += len(rest.content) + RUN_SIZE
        runs.insert(at, WaitingRun(clock, end, structs, content))
        self.size += len(content) + RUN_SIZE
        return write([write_section(client, clock, structs, content)]), whole

    def pop(self, client: int, known: int) -> Steps[WaitingRun | None]:
        """Remove and return the run that follows a client's first `known` elements; None if a gap precedes it."""
        runs = self._runs[client]
        found = None
        while found is None and runs and runs[0].clock <= known:
            run = runs.pop(0)
            self.size -= len(run.content) + RUN_SIZE
            if run.end > known:
                found = run if run.clock == known else (yield from _rest(client, run, known))
        if not runs:
            del self._runs[client]
        return found

    def update(self) -> bytes | None:
        """Return all pending runs as one update; None if there are none."""
        sections = []
        for client in sorted(self._runs, reverse=True):
            clock, _, structs, content = self.run(client, self._runs[client][0].clock)
            sections.append(write_section(client, clock, structs, content))
        return write(sections) if sections else None

    def run(self, client: int, clock: int) -> WaitingRun:
        """Return a client's pending runs as one run from `clock` on, with ``Skip`` structs for the gaps."""
        end, number = clock, 0
        written = []
        for start, stop, structs, content in self._runs[client]:
            if start > end:
                written.append(bytes((SKIP,)) + write_varuint(start - end))
                number += 1
            written.append(content)
            number += structs
            end = stop
        return WaitingRun(clock, end, number, b"".join(written))


def _rest(client: int, run: WaitingRun, clock: int) -> Steps[WaitingRun]:
    """Return the part of a run from `clock` on."""
    where = Run(client, run.clock, run.end, run.structs, 0, len(run.content))
    structs, first, behind = yield from cut_run(run.content, where, clock)
    return WaitingRun(clock, run.end, structs, first + run.content[behind:])


def _clock(run: WaitingRun) -> int:
    return run.clock
