"""Structs that came before their predecessors. Yjs clients keep them too: ``StructStore.pendingStructs``.

Source: yjs 13, ``utils/StructStore.js`` and ``utils/encoding.js`` (``integrateStructs``, ``readUpdateV2``).
"""

from bisect import bisect_right
from typing import NamedTuple

from .lib0 import Steps, write_varuint
from .structs import SKIP
from .update import Run, cut_run, write, write_section

RUN_SIZE = 4096
"""Bytes that a run counts besides its own while it waits: each makes every answer to step 1 longer."""


class WaitingRun(NamedTuple):
    """A run that waits, with its structs.

    Attributes:
        clock: of the first element.
        end: the clock behind the last one.
        structs: how many there are.
        content: the structs.
    """

    clock: int
    end: int
    structs: int
    content: bytes


class PendingRuns:
    """Runs of structs that wait for a gap before them to be closed. Those of one client do not overlap.

    Attributes:
        size: bytes that they count.
    """

    def __init__(self) -> None:
        self._runs: dict[int, list[WaitingRun]] = {}
        self.size = 0

    def __contains__(self, client: int) -> bool:
        return client in self._runs

    def clients(self) -> list[int]:
        """Return the clients of which something waits."""
        return list(self._runs)

    def cost(self, run: Run) -> int:
        """Return the bytes that a run would count; none if all of it waits already."""
        runs = self._runs.get(run.client, [])
        at = bisect_right(runs, run.clock, key=_clock)
        if at and runs[at - 1].end >= run.end:
            return 0
        return run.stop - run.at + RUN_SIZE

    def add(self, run: Run, content: bytes) -> Steps[tuple[bytes | None, bool]]:
        """Keep a run.

        Returns:
            an update with what of the run is new, None if nothing is, and whether all of the run is.
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
        """Return what follows a client's first `known` elements, and forget it; None if the next run still waits."""
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
        """Return everything that waits as one update; None if nothing does."""
        sections = []
        for client, runs in self._runs.items():
            clock, _, structs, content = self.run(client, runs[0].clock)
            sections.append(write_section(client, clock, structs, content))
        return write(sections) if sections else None

    def run(self, client: int, clock: int) -> WaitingRun:
        """Return what waits of a client as one run from `clock` on, with ``Skip`` structs in the gaps."""
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
    """Return what of a run comes from `clock` on."""
    where = Run(client, run.clock, run.end, run.structs, 0, len(run.content))
    structs, first, behind = yield from cut_run(run.content, where, clock)
    return WaitingRun(clock, run.end, structs, first + run.content[behind:])


def _clock(run: WaitingRun) -> int:
    return run.clock
