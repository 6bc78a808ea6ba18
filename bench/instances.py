"""Measures what several instances cost and carry: ``python -m bench.instances``, about two and a half minutes.

``edits``, ``signals`` and ``sends`` are open loops: the latency if the receiver is at the same or another instance, and
the CPU of each process. ``capacity`` saturates one and two instances. Servers, engines and clients share the machine's
cores, so the CPU that servers use for one delivery says more than deliveries a second.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from itertools import count
from statistics import quantiles
from time import perf_counter

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from . import cluster, machine
from .across import WARM, Figures, Pair, Route, edits, open_loop, signals
from .calls import Load, signal
from .cluster import Usage, instances
from .saturated import FanOut, fan_out
from .servers import Peer, Server

PAIRS = 10
RATE = 20.0
"""Messages a second of each pair: 200 a second together."""
SENDERS = 40
"""Connections that send notifications, each one after its last answer."""


class Spread(Server):
    """Several instances as one server: connections are spread over them, by room or in turn.

    Args:
        servers: the instances.
        by_room: whether all clients of a room come to one instance, as with a load balancer that hashes the path.
    """

    def __init__(self, servers: Sequence[Server], *, by_room: bool) -> None:
        self.peer = servers[0].peer
        self._servers = servers
        self._by_room = by_room
        self._turns = count()

    def url(self, room: str) -> str:
        """Return the address of a room at one of the instances."""
        turn = int(room.rpartition("-")[2]) if self._by_room else next(self._turns)
        return self._servers[turn % len(self._servers)].url(room)

    def cpu_seconds(self) -> float:
        """Return the CPU time that all instances have used so far."""
        return sum(server.cpu_seconds() for server in self._servers)


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
                await throughput(running, 1, listeners=False)
                for listeners in (False, True):
                    rate, used = await throughput(running, seconds, listeners)
                    where = "devices elsewhere" if number > 1 else "devices"
                    print(
                        f"sends, {number} instances, {where if listeners else 'no devices'}: {rate:.0f} sends/s, "
                        f"{used:.2f} ms CPU of servers a send",
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


async def device(instance: Server, user: str) -> ClientConnection:
    """Return a connection of a user that has its list."""
    client = await connect(instance.url(""), proxy=None, compression=None, max_size=None)
    await client.send(json.dumps({"type": "authenticate", "userId": user}))
    await client.recv()
    await client.recv()
    return client


def sending(user: str, number: int) -> str:
    """Return a message that sends a notification of about 200 bytes."""
    data = {"text": "x" * 150, "at": perf_counter()}
    fields = {"targetUserId": user, "notificationType": "mention", "data": data, "requestId": number}
    return json.dumps({"type": "send-notification", **fields})


async def throughput(running: list[Server], seconds: float, listeners: bool) -> tuple[float, float]:
    """Return sends a second over all instances, and milliseconds of CPU of the servers for each."""
    done = 0
    clients = [await device(running[number % len(running)], f"s{number}") for number in range(SENDERS)]
    # Each receiver's device is at another instance than its sender, where there are several.
    others = [running[(number + 1) % len(running)] for number in range(SENDERS if listeners else 0)]
    heard = [await device(other, f"u{number}") for number, other in enumerate(others)]

    async def drain(client: ClientConnection) -> None:
        async for _ in client:
            pass

    async def send(client: ClientConnection, number: int) -> None:
        nonlocal done
        while perf_counter() < end:
            await client.send(sending(f"u{number}", done))
            await client.recv()
            done += 1

    draining = [asyncio.create_task(drain(client)) for client in heard]
    usage = Usage(servers=[instance.pid for instance in running])
    began = perf_counter()
    end = began + seconds
    await asyncio.gather(*(send(client, number) for number, client in enumerate(clients)))
    rate = done / (perf_counter() - began)
    used = usage.since()["servers"]
    for task in draining:
        task.cancel()
    for client in (*clients, *heard):
        await client.close()
    return rate, 1000 * used / done


async def latency(sender_at: Server, receiver_at: Server, number: int, rate: float) -> tuple[float, float]:
    """Return p50 and p99, in milliseconds, from sending a notification until a device has it."""
    sender, receiver = await device(sender_at, "s"), await device(receiver_at, "u")
    times: list[float] = []

    async def receive() -> None:
        for _ in range(number):
            event = json.loads(await receiver.recv())
            times.append(perf_counter() - event["notification"]["data"]["at"])

    receiving = asyncio.create_task(receive())
    for each in range(number):
        await sender.send(sending("u", each))
        await asyncio.sleep(1 / rate)
    await receiving
    for client in (sender, receiver):
        await client.close()
    cuts = quantiles(times, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]


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
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.what) - set(MEASUREMENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(MEASUREMENTS)}")
    machine.raise_file_limit()

    async def run() -> None:
        for name in chosen.what or MEASUREMENTS:
            await MEASUREMENTS[name](chosen.seconds)

    uvloop.run(run())


if __name__ == "__main__":
    main()
