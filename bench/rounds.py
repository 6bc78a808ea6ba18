"""Rounds: every server in turn under the same load on the same core, several times over."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from picows import WSError

from .machine import Cores
from .outcome import Outcome
from .scenarios import Scenario
from .servers import Peer, ServerError, running


@dataclass
class Results:
    """The outcomes of all rounds.

    Attributes:
        outcomes: by scenario and server, one for each round.
        seconds: that it took.
        path: the file for a later run to go on with, if there is to be one.
    """

    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    seconds: float = 0.0
    path: Path | None = None

    @classmethod
    def kept(cls, path: Path | None) -> "Results":
        """Return what earlier runs kept in a file, nothing if there is none."""
        if path is None or not path.exists():
            return cls(path=path)
        seconds, rows = msgspec.json.decode(path.read_bytes(), type=tuple[float, list[tuple[str, str, list[Outcome]]]])
        return cls({(scenario, peer): outcomes for scenario, peer, outcomes in rows}, seconds, path)

    def keep(self) -> None:
        """Put everything into the file."""
        if self.path is None:
            return
        self.path.write_bytes(msgspec.json.encode((self.seconds, [(*key, one) for key, one in self.outcomes.items()])))

    @property
    def rounds(self) -> tuple[int, int]:
        """How many rounds there were, at least and at most: not every scenario may have been in each."""
        counts = [len(outcomes) for outcomes in self.outcomes.values()] or [0]
        return min(counts), max(counts)

    def of(self, scenario: Scenario, peer: Peer) -> list[Outcome]:
        """Return what a server has shown in a scenario, one outcome for each round."""
        return self.outcomes.get((scenario.name, peer.name), [])


async def run(
    scenarios: Sequence[Scenario], peers: Sequence[Peer], rounds: int, cores: Cores, results: Results
) -> None:
    """Run every scenario on every server in every round, each on a server that was just started.

    Adds to `results`, and has them kept after each scenario.
    """
    os.sched_setaffinity(0, {cores.generator})
    task = asyncio.current_task()
    assert task is not None
    # An interrupted run leaves no data behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for _ in range(rounds):
        for scenario in scenarios:
            started = time.monotonic()
            number = max(len(results.of(scenario, peer)) for peer in peers)
            # Nobody is always the first one after a pause.
            for peer in [*peers[number % len(peers) :], *peers[: number % len(peers)]]:
                if scenario.seed is not None and peer.seeds is None:
                    continue
                if scenario.peers is not None and peer.name not in scenario.peers:
                    continue
                outcome = await once(scenario, peer, cores.server)
                results.outcomes.setdefault((scenario.name, peer.name), []).append(outcome)
                _tell(number, scenario, peer, outcome)
            results.seconds += time.monotonic() - started
            results.keep()


async def once(scenario: Scenario, peer: Peer, core: int | None) -> Outcome:
    """Run one scenario on one server; what goes wrong with it is an outcome, too."""
    try:
        async with running(peer, core, scenario.seed) as server:
            return await scenario.run(server)
    except (ServerError, OSError, TimeoutError, ExceptionGroup) as error:
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if not isinstance(first, ServerError | OSError | TimeoutError | WSError):
            raise
        lines = str(first).splitlines() or [type(first).__name__]
        print(*lines, sep="\n", file=sys.stderr)
        return Outcome(notes=[f"FAILED: {lines[0]}"])


def _tell(number: int, scenario: Scenario, peer: Peer, outcome: Outcome) -> None:
    values = ", ".join(
        f"{metric.title} {outcome.values[metric.name]:,.{metric.digits}f}"
        for metric in scenario.metrics
        if metric.name in outcome.values
    )
    notes = "; ".join(outcome.notes)
    print(f"round {number + 1}  {scenario.name:<16}{peer.name:<20}{values}  {notes}", file=sys.stderr, flush=True)
