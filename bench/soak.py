"""The soak: a signaling server with many connections that come, go, vanish and resume, for as long as it is told to.

``python -m bench.soak --minutes 10 --connections 10000`` samples what the server uses once a second, and sees that in
some rooms every departure is told exactly once, and none of a peer that has resumed.
"""

import argparse
import asyncio
import datetime
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from urllib.request import urlopen

import uvloop

from . import machine
from .servers import Server, running
from .signaling import PEERS
from .signaling_load import Caller, Crowd, join, text

RESULTS = Path(__file__).parent / "results"
ROOM = 10
"""Peers in a room."""
WATCHED = 20
"""Rooms of which one peer stays and counts."""
CHURN = 0.02
"""Share of the connections that go in a second, each of which comes back."""
SIGNALS = 400
"""Signals and messages for topics in a second."""
TICK = 0.05
GRACE = 3.0
"""Seconds after which every departure has been told."""
COUNTED = (b'{"type":"peer-joined"', b'{"type":"peer-left"', b'{"type":"signal"')
"""The types of the messages that a peer counts."""
WAYS = ("leave", "close", "abort", "resume")
GAUGES = {
    "connections": "opennoodl_open_connections",
    "rooms": "opennoodl_signaling_rooms",
    "peers": "opennoodl_signaling_peers",
    "absent": "opennoodl_signaling_absent_peers",
    "unconfirmed": "opennoodl_signaling_unconfirmed_bytes",
}
"""The sampled values by their metrics."""


class Sample(NamedTuple):
    """The resources that the server used at one moment."""

    seconds: float
    rss: float
    files: int
    connections: int
    rooms: int
    peers: int
    absent: int
    unconfirmed: int


class Member:
    """One place in a room, taken by one peer after the other."""

    def __init__(self, room: str, name: str) -> None:
        self.room = room
        self.name = name
        self.lives = 0
        self.caller: Caller | None = None
        self.token: str | None = None
        self.counts = False

    @property
    def peer(self) -> str:
        """The id of the peer that has the place now."""
        return f"{self.name}.{self.lives}"


class Soak:
    """One soak.

    Attributes:
        samples: one for each second.
        ways: how often peers went, by how.
        faults: what was not told exactly once.
    """

    def __init__(self, server: Server, connections: int, seed: int) -> None:
        self.samples: list[Sample] = []
        self.ways: Counter[str] = Counter()
        self.faults: list[str] = []
        self._server = server
        self._crowd = Crowd(server)
        self._dice = random.Random(seed)  # noqa: S311
        self._members = [Member(f"room-{number // ROOM}", str(number)) for number in range(connections)]
        self._watchers = {member.room: member for member in self._members[: WATCHED * ROOM : ROOM]}
        self._free = [member for member in self._members if member not in self._watchers.values()]
        self._gone: Counter[tuple[str, str]] = Counter()  # departures of watched rooms that are to be told
        self._told: Counter[tuple[str, str]] = Counter()
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Fill the rooms, let everything happen for so long, and compare what was told."""
        for first in range(0, len(self._members), 100):
            await asyncio.gather(*(self._enter(member) for member in self._members[first : first + 100]))
        began = perf_counter()
        second = 0
        while (now := perf_counter() - began) < seconds:
            for _ in range(max(1, round(len(self._members) * CHURN * TICK))):
                self._spawn(self._go(self._dice.choice(self._free)))
            for _ in range(round(SIGNALS * TICK)):
                self._talk()
            if now >= second:
                second += 1
                self._listen()
                self.samples.append(await self._sample(now))
            await asyncio.sleep(TICK)
        await asyncio.gather(*self._pending)
        await asyncio.sleep(GRACE)
        self._listen()
        wrong = (self._gone - self._told) + (self._told - self._gone)
        self.faults += [f"{peer} in {room}: told {self._told[room, peer]} times" for room, peer in wrong]
        self._crowd.leave()

    async def _enter(self, member: Member, **fields: Any) -> None:
        watching = self._watchers.get(member.room) is member
        message = {**join(member.room, member.peer), **fields}
        member.counts = "received" in fields
        member.caller = await self._crowd.enter(message, keep=watching or member.counts)
        answer = json.loads(member.caller.answered.result())
        if answer["type"] != "joined":
            raise ConnectionError(f"the server answers {answer}")
        member.token = answer.get("resumeToken")

    async def _go(self, member: Member) -> None:
        """Let the peer of a place go in one way, and come back, as itself only if it resumes."""
        caller, member.caller = member.caller, None
        if caller is None:  # it is on its way already
            return
        way = self._dice.choice(WAYS)
        self.ways[way] += 1
        if way == "resume":
            if member.token is None:
                member.caller = caller
                await self._leave(member, caller, "leave")
                await self._enter(member, **self._resuming())
                return
            self._cut(caller)
            await asyncio.sleep(self._dice.uniform(0, 2))
            received = {"received": sum(one.startswith(COUNTED) for one in caller.frames)} if member.counts else {}
            await self._enter(member, resume=True, resumeToken=member.token, **received)
            return
        if way == "abort" and member.token is not None:
            way = "leave"  # it would be waited for, and its place is taken by another id meanwhile
        await self._leave(member, caller, way)
        await self._enter(member, **(self._resuming() if self._dice.random() < 0.3 else {}))

    def _resuming(self) -> dict[str, Any]:
        """Return how a peer asks to resume; every other one counts."""
        return {"resume": True, **({"received": 0} if self._dice.random() < 0.5 else {})}

    async def _leave(self, member: Member, caller: Caller, way: str) -> None:
        if member.room in self._watchers:
            self._gone[member.room, member.peer] += 1
        member.caller = None
        if way == "leave":
            caller.transport.write(text({"type": "leave"}))
            await asyncio.sleep(0.2)
        elif way == "close":
            caller.close()
            await asyncio.sleep(0.2)
        self._cut(caller)
        member.lives += 1

    def _cut(self, caller: Caller) -> None:
        self._crowd.hang_ups -= 1  # this one is no fault of the server's
        caller.transport.abort()
        self._crowd.callers.remove(caller)

    def _talk(self) -> None:
        member = self._dice.choice(self._free)
        room = int(member.name) // ROOM * ROOM
        to = self._members[room + self._dice.randrange(ROOM)]
        if member.caller is not None and to.caller is not None:
            member.caller.transport.write(text({"type": "signal", "to": to.peer, "signal": {"sdp": "x" * 500}}))
            topic = f"topic-{room}"
            message = {"type": "subscribe", "topics": [topic]}, {"type": "publish", "topic": topic, "data": "x" * 200}
            member.caller.transport.write(b"".join(text(one) for one in message))

    def _listen(self) -> None:
        """Count what the watchers were told."""
        for room, watcher in self._watchers.items():
            if watcher.caller is not None:
                for payload in watcher.caller.frames:
                    if payload.startswith(b'{"type":"peer-left"'):
                        self._told[room, json.loads(payload)["peerId"]] += 1
                watcher.caller.frames.clear()

    async def _sample(self, now: float) -> Sample:
        address = f"http://127.0.0.1:{self._server.port}/metrics"
        body = await asyncio.to_thread(lambda: urlopen(address, timeout=10).read())
        values = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
        gauges = {name: int(float(values[metric])) for name, metric in GAUGES.items()}
        files = len(await asyncio.to_thread(lambda: list(Path(f"/proc/{self._server.pid}/fd").iterdir())))
        return Sample(now, self._server.memory().now, files, **gauges)

    def _spawn(self, what: Any) -> None:
        task = asyncio.create_task(what)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)


async def soak(minutes: float, connections: int, seed: int, cores: machine.Cores | None) -> Soak:
    """Run a soak on our server."""
    async with running(PEERS[0], cores.server if cores else None) as server:
        one = Soak(server, connections, seed)
        await one.run(minutes * 60)
        return one


def report(one: Soak, connections: int, title: str) -> str:
    """Return what a soak has shown, in Markdown."""
    third = max(1, len(one.samples) // 3)
    lines = [f"# {title}", "", f"* Machine: {machine.shape()}."]
    ways = ", ".join(f"{way} {number:,}" for way, number in sorted(one.ways.items()))
    lines += [f"* {connections:,} connections in rooms of {ROOM}; departures: {ways}."]
    lines += [f"* Departures in watched rooms that were not told exactly once: {len(one.faults)}."]
    lines += ["", "| | first third | second third | last third |", "| --- | ---: | ---: | ---: |"]
    for name in Sample._fields[1:]:
        values = [getattr(sample, name) for sample in one.samples]
        parts = [values[:third], values[third : 2 * third] or values, values[2 * third :] or values]
        cells = " | ".join(f"{sum(part) / len(part):,.1f} (at most {max(part):,.1f})" for part in parts)
        unit = {"rss": "RSS MiB", "files": "open files", "unconfirmed": "unconfirmed bytes"}.get(name, name)
        lines.append(f"| {unit} | {cells} |")
    return "\n".join([*lines, *(f"* {fault}" for fault in one.faults[:20])]) + "\n"


def draw(path: Path, one: Soak, title: str) -> None:
    """Draw memory, files and peers over time."""
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # only who draws needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    panels: Sequence[tuple[str, Sequence[str]]] = (
        ("RSS, MiB", ["rss"]),
        ("open files and connections", ["files", "connections"]),
        ("peers", ["peers", "absent"]),
    )
    figure, axes = plt.subplots(len(panels), 1, figsize=(10, 9), sharex=True)
    seconds = [sample.seconds for sample in one.samples]
    for axis, (label, names) in zip(axes, panels, strict=True):
        for name in names:
            axis.plot(seconds, [getattr(sample, name) for sample in one.samples], label=name)
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.15 * max(getattr(sample, name) for sample in one.samples for name in names))
        axis.grid(color="#dddddd")
        axis.legend(loc="lower right", frameon=False)
    axes[-1].set_xlabel("seconds")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Run a soak, print what it has shown, and write that and a plot to ``bench/results`` if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with")
    parser.add_argument("--save", action="store_true", help="write results")
    asked = parser.parse_args()
    machine.raise_file_limit()
    one = uvloop.run(soak(asked.minutes, asked.connections, asked.seed, machine.cores()))
    today = datetime.datetime.now(tz=datetime.UTC).date()
    title = f"signaling soak: {asked.minutes:g} minutes, {today}"
    text_ = report(one, asked.connections, title)
    print(text_)
    if asked.save:
        stem = RESULTS / f"{today}-soak-signaling-{machine.short_cpu_model()}"
        stem.with_suffix(".md").write_text(text_ + f"\n![The same as a plot]({stem.name}.png)\n")
        draw(stem.with_suffix(".png"), one, f"{title}; {machine.shape()}")
    sys.exit(bool(one.faults))


if __name__ == "__main__":
    main()
