"""Outcomes: what one run of one scenario on one server has shown."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .servers import Server

BUSY = 0.9
"""Share of its core from which on the generator is taken to be the limit."""


@dataclass
class Outcome:
    """Numbers by the names of metrics, and what a reader of the table has to know about them."""

    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note_hang_ups(self, count: int) -> None:
        """Say that the server ended connections, if it did."""
        if count:
            self.notes.append(f"hung up on {count} clients")


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        name: the key in `Outcome.values`.
        title: for people, with its unit.
        more: whether more of it is better; None if it explains another one and no ratio is formed.
        digits: behind the point.
    """

    name: str
    title: str
    more: bool | None = False
    digits: int = 0


@dataclass
class Usage:
    """CPU seconds of the server and of the generator, and the time in which they were used."""

    elapsed: float = 0.0
    server: float = 0.0
    generator: float = 0.0

    def record(self, outcome: Outcome, per: float | None = None) -> None:
        """Add to `outcome` the shares of a core, of the elapsed time or of `per` seconds."""
        outcome.values["server_cpu"] = 100 * self.server / (per or self.elapsed)
        outcome.values["generator_cpu"] = 100 * self.generator / self.elapsed
        if self.generator > BUSY * self.elapsed:
            outcome.notes.append("the generator's core was full: it may be the limit")


@contextmanager
def measured(server: Server) -> Iterator[Usage]:
    """Measure what a block uses, undisturbed by the generator's own garbage collection."""
    usage = Usage()
    gc.collect()
    gc.freeze()
    gc.disable()
    started, served, generated = time.perf_counter(), server.cpu_seconds(), time.process_time()
    try:
        yield usage
    finally:
        usage.elapsed = time.perf_counter() - started
        usage.server = server.cpu_seconds() - served
        usage.generator = time.process_time() - generated
        gc.enable()
        gc.unfreeze()


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the `ordered` values are."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
