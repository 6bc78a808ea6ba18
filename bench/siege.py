"""The siege: one of our servers with honest clients and attackers, for as long as it is told to.

``python -m bench.siege sync --minutes 10`` does the attacks of ``e2e/attacks`` one after the other, with the slow ones
behind them all the time, samples what the server uses once a second, and times the round trips of honest clients.
"""

import argparse
import asyncio
import datetime
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

import uvloop
from websockets.asyncio.client import connect

from e2e.attacks import ATTACKS, KINDS, Attack
from e2e.attacks.honest_clients import PAIRS, Pair
from e2e.attacks.raw_connection import Target
from e2e.attacks.resource_usage import ResourceUsage, resource_usage

from . import machine
from .servers import Peer, running

RESULTS = Path(__file__).parent / "results"
HONEST = 3
"""Pairs of honest clients."""
REST = 0.1
"""Share of the time without attacks, at the beginning, and again at the end."""
SETTINGS = {
    "MAX_ROOMS": "50",
    "MAX_ROOM_SIZE": "0",
    "MAX_DOCUMENT_SIZE": "4194304",
    "ROOM_IDLE_TIMEOUT": "100",
    "HEARTBEAT_INTERVAL": "5000",
}
"""Bounds that an attack comes to sooner than to those that the servers have by themselves. All attack the same document
here, so it takes them all: who finds it full would have nothing to attack."""


class Moment(NamedTuple):
    """The resources that the server used at one moment, in seconds since the start."""

    seconds: float
    usage: ResourceUsage


class Span(NamedTuple):
    """When an attack was under way."""

    name: str
    began: float
    ended: float


class Siege:
    """One siege.

    Attributes:
        moments: one for each second.
        spans: one for each attack.
        trips: when each round trip of honest clients began, and the seconds that it took.
        faults: attackers that got what they should not get, and what kept honest clients from working.
        rest: from when until when there was no attack, at the beginning and at the end.
    """

    def __init__(self, kind: str, port: int, pid: int, seed: int) -> None:
        self.kind = kind
        self.moments: list[Moment] = []
        self.spans: list[Span] = []
        self.trips: list[tuple[float, float]] = []
        self.faults: Counter[str] = Counter()
        self.rest: list[tuple[float, float]] = []
        self._port = port
        self._pid = pid
        self._dice = random.Random(seed)  # noqa: S311
        self._addresses = count(1)
        self._began = perf_counter()

    async def run(self, seconds: float) -> None:
        """Let honest clients work for so long, and attack in between."""
        pairs = [await PAIRS[self.kind].open(self._port) for _ in range(HONEST)]
        staying = asyncio.create_task(self._stay())
        self._began = perf_counter()
        for pair in pairs:
            pair.work()
        watching = asyncio.create_task(self._watch())
        await self._rest(seconds * REST)
        slow = [asyncio.create_task(self._slow(attack, seconds * (1 - REST))) for attack in self._attacks(slow=True)]
        while self._now() < seconds * (1 - REST):
            attacks = self._attacks(slow=False)
            self._dice.shuffle(attacks)
            for attack in attacks:
                if self._now() < seconds * (1 - REST):
                    await self._attack(attack)
        await asyncio.gather(*slow)
        await self._rest(seconds * REST)
        watching.cancel()
        staying.cancel()
        await asyncio.wait([watching, staying])
        for pair in pairs:
            await self._end(pair)

    def latency(self, spans: Sequence[tuple[float, float]]) -> list[float]:
        """Return the milliseconds of the round trips that were under way in one of these spans."""
        return [
            took * 1000
            for began, took in self.trips
            if any(began < end and began + took > start for start, end in spans)
        ]

    def _now(self) -> float:
        return perf_counter() - self._began

    def _attacks(self, *, slow: bool) -> list[Attack]:
        return [one for one in ATTACKS if self.kind in one.gets and one.slow is slow and "open" in one.setups]

    async def _rest(self, seconds: float) -> None:
        began = self._now()
        await asyncio.sleep(seconds)
        self.rest.append((began, self._now()))

    async def _slow(self, attack: Attack, until: float) -> None:
        while self._now() < until:
            await self._attack(attack)

    async def _attack(self, attack: Attack) -> None:
        number, began = next(self._addresses), self._now()
        target = Target(self.kind, self._port, f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}")
        try:
            got = set(await attack.act(target))
        except (OSError, AssertionError, TimeoutError) as error:
            self.faults[f"{attack.name}: {error!r}"] += 1
        else:
            if not got <= attack.gets[self.kind]:
                self.faults[f"{attack.name}: {', '.join(sorted(got - attack.gets[self.kind]))}"] += 1
        self.spans.append(Span(attack.name, began, self._now()))

    async def _stay(self) -> None:
        """Be in the document that is attacked: one that is open can be got into when there may be no more of them."""
        if self.kind == "sync":
            async with connect(f"ws://127.0.0.1:{self._port}{Target(self.kind, self._port, '').path.decode()}") as room:
                async for _ in room:
                    pass

    async def _watch(self) -> None:
        for second in count(1):
            try:
                self.moments.append(Moment(self._now(), await resource_usage(self._pid, self._port)))
            except (OSError, TimeoutError) as error:  # it is a fault, and what comes after is still to be seen
                self.faults[f"measuring: {error!r}"] += 1
            await asyncio.sleep(max(0.0, second - self._now()))

    async def _end(self, pair: Pair) -> None:
        self.trips += [(began - self._began, took) for began, took in pair.times]
        try:
            await pair.close()
        except Exception as error:  # whatever kept honest clients from working is what is looked for
            self.faults[f"honest clients: {error!r}"] += 1


async def siege(kind: str, minutes: float, seed: int, cores: machine.Cores | None) -> Siege:
    """Besiege one of our servers."""
    places = {"PORT": "{port}", "HOST": "127.0.0.1", "PERSIST_DIR": "{data}", "DB_FILE": "{data}.json"}
    settings = {**places, **SETTINGS, "LOG_FORMAT": "json"}
    peer = Peer("ours", kind, (sys.executable, "-m", f"opennoodl_{kind}"), settings)
    async with running(peer, cores.server if cores else None) as server:
        one = Siege(kind, server.port, server.pid, seed)
        await one.run(minutes * 60)
        return one


def _cells(times: Sequence[float]) -> str:
    if len(times) < 2:
        return "| | |"
    return f"{median(times):.1f} | {quantiles(times, n=100)[98]:.1f} | {max(times):.1f}"


def report(one: Siege, title: str, load: Sequence[float]) -> str:
    """Return what a siege has shown, in Markdown."""
    rest, attacked = one.latency(one.rest), one.latency([(one.rest[0][1], one.rest[-1][0])])
    lines = [f"# {title}", "", f"* Machine: {machine.shape()}; load {load[0]:.1f} before and {load[1]:.1f} after."]
    lines += [f"* {HONEST} pairs of honest clients, {len(one.trips):,} round trips; {len(one.spans):,} attacks."]
    lines += [
        f"* Attackers that got what they should not, and honest clients that could not work: {one.faults.total()}."
    ]
    lines += ["", "| honest round trips | p50 ms | p99 ms | most |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| at rest | {_cells(rest)} |", f"| under attack | {_cells(attacked)} |"]
    if len(rest) > 1 and len(attacked) > 1:
        ratio = [median(attacked) / median(rest), quantiles(attacked, n=100)[98] / quantiles(rest, n=100)[98]]
        lines += [f"| attacked / at rest | {ratio[0]:.1f} | {ratio[1]:.1f} | {max(attacked) / max(rest):.1f} |"]
    third = max(1, len(one.moments) // 3)
    lines += ["", "| | first third | second third | last third |", "| --- | ---: | ---: | ---: |"]
    for name in ResourceUsage._fields:
        values = [getattr(moment.usage, name) for moment in one.moments]
        parts = [values[:third], values[third : 2 * third] or values, values[2 * third :] or values]
        cells = " | ".join(f"{sum(part) / len(part):,.1f} (at most {max(part):,.1f})" for part in parts)
        lines.append(f"| {'MiB of memory' if name == 'memory' else name} | {cells} |")
    lines += ["", "| while this was done | times | p50 ms | p99 ms | most |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in sorted({span.name for span in one.spans}):
        spans = [(span.began, span.ended) for span in one.spans if span.name == name]
        lines.append(f"| {name} | {len(spans)} | {_cells(one.latency(spans))} |")
    return "\n".join([*lines, "", *(f"* {fault} ({times})" for fault, times in one.faults.most_common(20))]) + "\n"


def draw(path: Path, one: Siege, title: str) -> None:
    """Draw memory, files, tasks and round trips over time."""
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # only who draws needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    figure, axes = plt.subplots(3, 1, figsize=(10, 9), sharex=True)
    seconds = [moment.seconds for moment in one.moments]
    panels: list[tuple[Any, str, Sequence[str]]] = [
        (axes[0], "memory, MiB", ["memory"]),
        (axes[1], "open files, connections, tasks", ["files", "connections", "tasks"]),
    ]
    for axis, label, names in panels:
        for name in names:
            axis.plot(seconds, [getattr(moment.usage, name) for moment in one.moments], label=name, linewidth=0.8)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper right", frameon=False)
    axes[2].plot([began for began, _ in one.trips], [took * 1000 for _, took in one.trips], ".", markersize=1)
    axes[2].set_ylabel("honest round trips, ms")
    axes[2].set_yscale("log")
    axes[2].set_xlabel("seconds")
    for axis in axes:
        axis.axvspan(one.rest[0][1], one.rest[-1][0], color="#c8553d", alpha=0.08)
        axis.grid(color="#dddddd")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Besiege a server, print what that has shown, and write it and a plot to ``bench/results`` if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.siege", description=__doc__)
    parser.add_argument("what", choices=KINDS, help="the server to besiege")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with")
    parser.add_argument("--save", action="store_true", help="write results")
    asked = parser.parse_args()
    machine.raise_file_limit()
    before = os.getloadavg()[0]
    one = uvloop.run(siege(asked.what, asked.minutes, asked.seed, machine.cores()))
    today = datetime.datetime.now(tz=datetime.UTC).date()
    title = f"{asked.what} siege: {asked.minutes:g} minutes, {today}"
    text = report(one, title, (before, os.getloadavg()[0]))
    print(text)
    if asked.save:
        stem = RESULTS / f"{today}-siege-{asked.what}-{machine.short_cpu_model()}"
        stem.with_suffix(".md").write_text(text + f"\n![The same as a plot]({stem.name}.png)\n")
        draw(stem.with_suffix(".png"), one, f"{title}; {machine.shape()}")
    sys.exit(bool(one.faults))


if __name__ == "__main__":
    main()
