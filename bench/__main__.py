"""The command line: ``python -m bench sync``, ``signaling`` or ``notification``."""

import argparse
import asyncio
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from . import machine, notifications, plot, report, rounds, scenarios, servers, signaling
from .rounds import Results
from .scenarios import Scenario
from .servers import Peer, ServerError, node

RESULTS = Path(__file__).parent / "results"
ABOUT = """\
The same load on each server in turn, on one core; the generator has another one. Persistence is on wherever a
server has it. How each number is measured, and what it does not say, is in [the README](../README.md)."""


class Subject(NamedTuple):
    """One thing that can be measured.

    Attributes:
        peers: the servers; ours is the first one.
        scenarios: returns the loads, quick ones or not.
    """

    peers: Sequence[Peer]
    scenarios: Callable[..., list[Scenario]]


SUBJECTS = {
    "sync": Subject(servers.PEERS, scenarios.sync),
    "signaling": Subject(signaling.PEERS, signaling.scenarios),
    "notification": Subject(notifications.PEERS, notifications.scenarios),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write them and a plot to ``bench/results``."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=list(SUBJECTS), help="the server to measure")
    parser.add_argument("--rounds", type=int, help="how often everything is repeated (3, or 1 when quick)")
    parser.add_argument("--quick", action="store_true", help="small loads: shows that it works, measures little")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="only these scenarios")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="only these peers beside ours; none for ours alone")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="go on with the rounds in FILE, and keep all there")
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, help="write results (default unless --quick)")
    chosen = parser.parse_args(arguments)

    subject = SUBJECTS[chosen.what]
    every = subject.scenarios(quick=chosen.quick)
    selected = [one for one in every if chosen.only is None or one.name in chosen.only]
    ours = subject.peers[0]
    peers = [peer for peer in subject.peers if peer is ours or chosen.peers is None or peer.name in chosen.peers]
    known = {one.name for one in every} | {peer.name for peer in subject.peers}
    unknown = {*(chosen.only or ()), *(chosen.peers or ())} - known
    if unknown or not selected:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    count = chosen.rounds or (1 if chosen.quick else 3)
    cores = machine.cores()
    machine.raise_file_limit()
    try:
        if any(peer.command[0] == "node" for peer in peers):
            node()
    except ServerError as error:
        sys.exit(str(error))
    results = Results.kept(chosen.keep)
    try:
        uvloop.run(rounds.run(selected, peers, count, cores, results))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(f"stopped; {chosen.keep or 'no file'} has what was done before")
    selected = [one for one in every if any(scenario == one.name for scenario, _ in results.outcomes)]

    today = datetime.datetime.now(tz=datetime.UTC).date()
    title = f"{chosen.what}: ours and its peers, {today}"
    about = ABOUT
    about += "\n\n**Server and generator shared one core: these numbers compare little.**" * cores.shared
    about += "\n\n**A quick run: these numbers show that the benchmark works, not more.**" * chosen.quick
    text = report.markdown(results, selected, peers, title=title, about=about)
    print(text)
    if chosen.save or (chosen.save is None and not chosen.quick):
        RESULTS.mkdir(exist_ok=True)
        shape = f"{len({cores.server, cores.generator})}"
        stem = RESULTS / f"{today}-{chosen.what}-{shape}x{machine.short_cpu_model()}"
        stem.with_suffix(".md").write_text(text + f"\n![The same as a plot]({stem.name}.png)\n")
        plot.draw(stem.with_suffix(".png"), results, selected, peers, f"{title}; {machine.shape()}")
        print(f"written to bench/results/{stem.name}.md and .png", file=sys.stderr)


if __name__ == "__main__":
    main()
