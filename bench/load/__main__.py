"""The command line: ``make load TARGET=wss://noodl.example USERS=500 MINUTES=5``, for your own deployment."""

import argparse
import asyncio
import sys
from math import inf
from pathlib import Path
from time import perf_counter

import uvloop

from .. import machine
from .deployment import PORTS, Endpoint, LoadTestError, Tokens, Usage, check_consent, endpoints
from .figures import KINDS, Figures, Moment, server_table, table, verdict
from .people import Person, crowd
from .plot import draw

ARRIVALS = 50
"""People who come in a second: half of `HANDSHAKE_RATE_LIMIT`."""
SHOWN = 5.0
"""Seconds between two lines of progress."""
REST = 10.0
"""Seconds in which everything has to arrive after the load."""
STEP = 0.1
"""Seconds between two looks at what has arrived."""


class Load:
    """One load test.

    Attributes:
        figures: what people have seen.
        moments: one for each interval; the first is before the load.
    """

    def __init__(self, endpoints: list[Endpoint], tokens: Tokens, people: int, seconds: float) -> None:
        self.figures = Figures()
        self.moments: list[Moment] = []
        self._endpoints = endpoints
        self._tokens = tokens
        self._seconds = seconds
        self._people = crowd(people, self.figures, seconds)
        self._counted = dict.fromkeys(KINDS, 0)

    async def run(self) -> None:
        """Let people come, work and leave."""
        show(f"{len(self._people)} people connect, {ARRIVALS} a second.")
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, person in enumerate(self._people):
                    tasks.create_task(self._come(person, number / ARRIVALS))
            working = [person for person in self._people if person.connected]
            await self._work(working)
            for person in working:
                person.count_lost()
        finally:
            await asyncio.gather(*(person.leave() for person in self._people))

    async def _come(self, person: Person, after: float) -> None:
        await asyncio.sleep(after)
        await person.enter(self._endpoints, self._tokens)

    async def _work(self, people: list[Person]) -> None:
        start = perf_counter()
        await self._note(start)
        progress = asyncio.create_task(self._progress(start))
        try:
            await asyncio.gather(*(person.work(start) for person in people))
        finally:
            progress.cancel()
            await asyncio.wait([progress])
        await self._note(start)
        for _ in range(round(REST / STEP)):
            if not any(person.missing() for person in people):
                break
            await asyncio.sleep(STEP)

    async def _progress(self, start: float) -> None:
        every = min(SHOWN, self._seconds / 4)
        while True:
            await asyncio.sleep(every)
            await self._note(start)
            show(line(self.moments[-1], self.figures))

    async def _note(self, start: float) -> None:
        usages = dict(zip(PORTS, await asyncio.gather(*(usage(one) for one in self._endpoints)), strict=True))
        now = perf_counter() - start
        before = self.moments[-1].seconds if self.moments else 0.0
        counted = {name: len(waits) for name, waits in self.figures.waits.items()}
        rates = {name: (counted[name] - self._counted[name]) / max(now - before, 0.001) for name in KINDS}
        p99 = {name: self.figures.p99(name, self._counted[name]) for name in KINDS}
        self._counted = counted
        self.moments.append(Moment(now, rates, p99, usages))


async def usage(endpoint: Endpoint) -> Usage | None:
    """Return what a server's metrics say, or None if they cannot be read; the report then says so."""
    try:
        return await endpoint.usage()
    except OSError:
        return None


def show(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def line(moment: Moment, figures: Figures) -> str:
    """Return a line of progress."""
    parts = [f"{moment.seconds:5.0f} s"]
    for name, title in (("cursor", "cursors"), ("edit", "edits")):
        p99 = moment.p99[name]
        parts.append(f"{title} {moment.rates[name]:,.0f}/s" + (f" p99 {p99:,.0f} ms" if p99 is not None else ""))
    faults = figures.refused.total() + figures.ended.total()
    return "  ".join([*parts, f"refused or ended {faults:,}"])


def report(load: Load, people: int) -> tuple[bool, str]:
    """Return whether all is well, and the report in Markdown."""
    good, (first, *others) = verdict(load.figures, people)
    reasons = ["", *(f"* {sentence}" for sentence in others)] if others else []
    lines = [first, *reasons, "", *table(load.figures), "", *server_table(load.moments, list(PORTS))]
    return good, "\n".join(lines)


def main() -> None:
    """Run a load test, and exit with 0 if its verdict is good, with 1 if not, and with 2 if it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("target", nargs="?", default="", help="wss://HOST with paths, or ws://HOST with ports")
    for name in PORTS:
        parser.add_argument(f"--{name}", metavar="URL", help=f"the {name} server, if it is elsewhere")
    parser.add_argument("--users", type=int, default=50, help="people (default: 50)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long they work (default: 1)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency and CPU over time into this PNG")
    asked = parser.parse_args()
    if asked.users < 2 or not 0 < asked.minutes < inf:
        parser.error("a load test needs at least 2 users and more than 0 minutes")
    if asked.plot and not asked.plot.absolute().parent.is_dir():
        parser.error(f"the directory of {asked.plot} does not exist")
    seconds = asked.minutes * 60
    machine.raise_file_limit()

    async def run() -> Load:
        found = endpoints(asked.target, {name: getattr(asked, name) for name in PORTS})
        tokens = Tokens(seconds + asked.users / ARRIVALS + 600)
        await check_consent(found, tokens)
        load = Load(found, tokens, asked.users, seconds)
        await load.run()
        return load

    try:
        load = uvloop.run(run())
    except LoadTestError as error:
        show(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("stopped")
    good, text = report(load, asked.users)
    print(text)
    if asked.plot:
        draw(asked.plot, load.moments)
    sys.exit(not good)


if __name__ == "__main__":
    main()
