"""Measures what several instances cost and carry: ``python -m bench.instances``, about two and a half minutes.

``edits``, ``signals`` and ``sends`` are open loops: the latency if the receiver is at the same or another instance, and
the CPU of each process. ``capacity`` saturates one and two instances. Servers, engines and clients share the machine's
cores, so the CPU that servers use for one delivery says more than deliveries a second.

With ``--quota``, each instance may use only a part of a core, so that two instances, the engine and the clients fit on
two cores: see ``scaling.py``.
"""

import argparse
from collections.abc import Sequence

import uvloop

from . import cluster, machine, scaling
from .across_instances import WARM, Figures, Pair, Route, edits, open_loop, signals
from .cluster import Spread, Usage, instances
from .saturated import FanOut, fan_out
from .sends import latency, throughput
from .servers import Peer, Server
from .signaling_load import Load, signal

PAIRS = 10
RATE = 20.0
"""Messages a second of each pair: 200 a second together."""
SENDERS = 40
"""Connections that send notifications, each one after its last answer."""


def _row(name: str, figures: Figures, frames: int = 1) -> None:
    """Print one line; the CPU is for each message, or for each of so many frames of a message."""
    used = ", ".join(f"{name} {1e6 * cpu / figures.messages / frames:.0f}" for name, cpu in figures.cpu.items())
    lost = f", {figures.lost} LOST" if figures.lost else ""
    print(
        f"{name}: p50 {figures.p50:.2f} ms, p99 {figures.p99:.2f} ms (generator's lag p99 {figures.lag:.2f} ms); "
        f"CPU in µs a {'message' if frames == 1 else 'frame'}: {used}{lost}",
        flush=True,
    )


async def measure_edits(seconds: float) -> None:
    """Measure an edit on its way to one other client, 200 a second in ten rooms."""
    updates = round(RATE * (WARM + seconds))

    async def pairs(writer: Server, reader: Server, owner: Server, name: str) -> list[Pair]:
        route = Route(writer, reader, owner)
        return [await edits(number, route, updates, f"{name}-{number}") for number in range(PAIRS)]

    async with instances(cluster.sync(), 1) as (one,):
        _row(
            "edit, LevelDB, one instance",
            await open_loop(await pairs(one, one, one, "a"), RATE, lambda: Usage(server=[one.pid])),
        )
    with cluster.database() as engine:
        async with instances(cluster.sync(engine.url), 1) as (one,):
            usage = lambda: Usage(server=[one.pid], PostgreSQL=engine.pids)  # noqa: E731
            _row("edit, PostgreSQL, one instance", await open_loop(await pairs(one, one, one, "a"), RATE, usage))
        async with instances(cluster.sync(engine.url), 2) as (one, two):
            usage = lambda: Usage(owner=[one.pid], other=[two.pid], PostgreSQL=engine.pids)  # noqa: E731
            _row("edit, writer at the other instance", await open_loop(await pairs(two, one, one, "b"), RATE, usage))
            both = await open_loop(await pairs(two, two, one, "c"), RATE, usage)
            _row("edit, writer and reader at the other instance", both)
            relay = 1e6 * both.cpu["other"] / both.messages / 2
            print(f"relay: {relay:.0f} µs of CPU for each frame that is passed on")


async def measure_signals(seconds: float) -> None:
    """Measure a signal of 200 bytes, 200 a second between ten pairs."""
    number = round(RATE * (WARM + seconds))

    async def pairs(sender: Server, receiver: Server, name: str) -> list[Pair]:
        return [await signals(pair, sender, receiver, number, f"{name}-{pair}") for pair in range(PAIRS)]

    with cluster.redis() as engine:
        async with instances(cluster.signaling(), 1) as (one,):
            figures = await open_loop(await pairs(one, one, "a"), RATE, lambda: Usage(server=[one.pid]))
            _row("signal, in memory", figures)
        async with instances(cluster.signaling(engine.url), 2) as (one, two):
            usage = lambda: Usage(sender=[one.pid], receiver=[two.pid], Redis=engine.pids)  # noqa: E731
            _row("signal, Redis, same instance", await open_loop(await pairs(one, one, "b"), RATE, usage))
            _row("signal, Redis, other instance", await open_loop(await pairs(one, two, "c"), RATE, usage))


async def measure_sends(seconds: float) -> None:
    """Measure notifications: sends a second, latency to a device, CPU."""
    with cluster.database() as engine:
        for number in (1, 2):
            async with instances(cluster.notification(engine.url), number) as running:
                usage = lambda: Usage(servers=[one.pid for one in running])  # noqa: E731
                await throughput(running, SENDERS, 1, usage, listeners=False)
                for listeners in (False, True):
                    sends = await throughput(running, SENDERS, seconds, usage, listeners=listeners)
                    where = "devices elsewhere" if number > 1 else "devices"
                    print(
                        f"sends, {number} instances, {where if listeners else 'no devices'}: {sends.rate:.0f} sends/s, "
                        f"{1000 * sends.cpu['servers'] / sends.number:.2f} ms CPU of servers a send",
                        flush=True,
                    )
                p50, p99 = await latency(running[0], running[-1], int(100 * seconds), 100)
                where = "other instance" if number > 1 else "one instance"
                print(f"send, {where}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)


async def measure_capacity(seconds: float) -> None:
    """Saturate one and two instances of sync and signaling, each on a core of its own."""
    first, second = machine.cores()
    updates = max(20, round(60 * seconds))

    async def saturate(what: str, peer: Peer, cores: list[int | None], *, by_room: bool) -> None:
        async with instances(peer, len(cores), cores) as running:
            spread = Spread(running, by_room=by_room)
            if what == "sync":
                rooms = f"{len(cores)}-{by_room}"  # the database keeps those of the cases before
                await fan_out(spread, FanOut(50, 4, 4, 5), 30, prefix=f"warm-{rooms}")
                outcome = await fan_out(spread, FanOut(50, 4, 4, updates), 60, prefix=rooms)
            else:
                await signal(spread, Load(50, 2, 50), 30)
                outcome = await signal(spread, Load(50, 2, 5 * updates), 60)
            values = outcome.values
            if not values["deliveries"]:
                print(f"capacity, {what}, {len(cores)} instances: {', '.join(outcome.notes)}", flush=True)
                return
            placed = "" if len(cores) == 1 else ", by room" if by_room else ", in turn"
            print(
                f"capacity, {what}, {len(cores)} instances{placed}: {values['deliveries']:.0f} deliveries/s; "
                f"{1e4 * values['server_cpu'] / values['deliveries']:.1f} µs CPU of servers a delivery; "
                f"servers {values['server_cpu']:.0f} %, generator {values['generator_cpu']:.0f} % of a core"
                f"{'; ' if outcome.notes else ''}{', '.join(outcome.notes)}",
                flush=True,
            )

    with cluster.database() as database, cluster.redis() as redis:
        for what, peer in (("sync", cluster.sync(database.url)), ("signaling", cluster.signaling(redis.url))):
            await saturate(what, peer, [first], by_room=what == "sync")
            if what == "sync":
                await saturate(what, peer, [first, second], by_room=True)
            await saturate(what, peer, [first, second], by_room=False)


MEASUREMENTS = {
    "edits": measure_edits,
    "signals": measure_signals,
    "sends": measure_sends,
    "capacity": measure_capacity,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.instances", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(MEASUREMENTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=5, help="of each case")
    parser.add_argument(
        "--quota",
        type=float,
        metavar="PERCENT",
        help="of a core for each instance: measures only how much more two carry than one; needs root",
    )
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.what) - set(MEASUREMENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(MEASUREMENTS)}")
    if chosen.quota is not None and (chosen.what or not 1 <= chosen.quota <= 100):
        parser.error("--quota is a number from 1 to 100, without WHAT")
    machine.raise_file_limit()

    async def run() -> None:
        if chosen.quota is not None:
            await scaling.measure(chosen.seconds, chosen.quota)
            return
        for name in chosen.what or MEASUREMENTS:
            await MEASUREMENTS[name](chosen.seconds)

    uvloop.run(run())


if __name__ == "__main__":
    main()
