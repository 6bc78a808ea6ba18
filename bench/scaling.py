"""How much more two instances carry than one, if each may use only a part of a core.

At full speed, two instances, the engine and the clients do not fit on two cores. With a quota for each instance, the
engine and the clients have room, and each instance is as fast as on a slower core of its own. The load is saturated,
with as many clients for each instance in either case.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from time import perf_counter, process_time
from typing import NamedTuple

from . import cluster, machine
from .cluster import Spread, Usage, instances
from .outcome import Outcome
from .quota import quota
from .saturated import FanOut, fan_out
from .sends import throughput
from .servers import Peer, Server
from .signaling_load import Load, signal

ROOMS = 20
"""For each instance: of four writers, or of two peers that signal each other."""
SENDERS = 40
"""Of notifications, for each instance."""
FIRST_RATE = 2000.0
"""Deliveries a second for the warm-up, which says how much to send afterwards."""
LIMIT = 120.0
"""Seconds until a load has to be delivered."""


Run = Callable[[list[Server], float, float], Awaitable[Outcome]]
"""Loads instances for so many seconds, if they deliver so many a second; returns what they deliver and use."""


class Case(NamedTuple):
    """A server, with a load.

    Attributes:
        name: for people.
        peer: the server.
        run: the load.
        engine, pids: name and processes of what the instances share.
    """

    name: str
    peer: Peer
    run: Run
    engine: str
    pids: Callable[[], list[int]]


async def measure(seconds: float, percent: float) -> None:
    """Print what one and two instances carry.

    Args:
        seconds: of each load, roughly.
        percent: of a core that each instance may use.
    """
    with cluster.database() as database, cluster.redis() as redis:
        of_database = "PostgreSQL", lambda: database.pids
        of_redis = "Redis", lambda: redis.pids
        sync, signaling = cluster.sync(database.url), cluster.signaling(redis.url)
        notification = cluster.notification(database.url)
        for case in (
            Case("sync, a room at one instance", sync, _updates(by_room=True), *of_database),
            Case("sync, a room at all instances", sync, _updates(by_room=False), *of_database),
            Case("signaling, peers at the same instance", signaling, _signals(together=2), *of_redis),
            Case("signaling, peers at different instances", signaling, _signals(together=1), *of_redis),
            Case("notification, receivers without devices", notification, _sends(listeners=False), *of_database),
            Case("notification, devices at another instance", notification, _sends(listeners=True), *of_database),
        ):
            one = await _measure(case, 1, percent, seconds)
            two = await _measure(case, 2, percent, seconds)
            print(f"{case.name}: two instances carry {two / one:.2f} times as much as one", flush=True)


async def _measure(case: Case, number: int, percent: float, seconds: float) -> float:
    """Print what so many instances carry; return it."""
    async with AsyncExitStack() as stack:
        quotas = [stack.enter_context(quota(percent)) for _ in range(number)]
        running = await stack.enter_async_context(instances(case.peer, number))
        for each, server in zip(quotas, running, strict=True):
            each.hold(server.pid)
        first = await case.run(running, 1, FIRST_RATE)
        await asyncio.sleep(0.5)  # its clients have left then
        usage = Usage(engine=case.pids())
        began, idle = perf_counter(), machine.idle_seconds()
        outcome = await case.run(running, seconds, first.values["deliveries"])
        elapsed, engine = perf_counter() - began, usage.since()["engine"]
        idle = (machine.idle_seconds() - idle) / elapsed / (os.cpu_count() or 1)
    values = outcome.values
    rate, used = values["deliveries"], values["server_cpu"]
    print(
        f"{case.name}, {number} of {percent:.0f} %: {rate:,.0f} a second; CPU in µs for each: servers "
        f"{1e4 * used / rate:.1f}, {case.engine} {1e6 * engine / values['number']:.1f}; the servers used "
        f"{used / number / percent:.0%} of their quotas, the generator {values['generator_cpu']:.0f} % of a core; "
        f"{idle:.0%} of the machine was idle{''.join(f'; {note}' for note in outcome.notes)}",
        flush=True,
    )
    return rate


def _updates(*, by_room: bool) -> Run:
    """Return a load of sync: an update is delivered to three other clients."""
    loads = count()

    async def run(running: list[Server], seconds: float, rate: float) -> Outcome:
        rooms = ROOMS * len(running)
        load = FanOut(rooms, 4, 4, max(1, round(rate * seconds / rooms / 12)))
        # The database keeps the rooms of loads before.
        prefix = f"{'room' if by_room else 'turn'}-{next(loads)}"
        outcome = await fan_out(Spread(running, by_room=by_room), load, LIMIT, prefix)
        outcome.values["number"] = outcome.values["arrived"] * rooms * 12 * load.updates
        return outcome

    return run


def _signals(*, together: int) -> Run:
    """Return a load of signaling: both peers of each room signal the other; so many in turn are at one instance."""

    async def run(running: list[Server], seconds: float, rate: float) -> Outcome:
        rooms = ROOMS * len(running)
        load = Load(rooms, 2, max(5, round(rate * seconds / rooms / 2)))
        outcome = await signal(Spread(running, together=together), load, LIMIT)
        outcome.values["number"] = outcome.values["arrived"] * rooms * 2 * load.messages
        return outcome

    return run


def _sends(*, listeners: bool) -> Run:
    """Return a load of notification: each sender waits for its answer."""

    async def run(running: list[Server], seconds: float, _: float) -> Outcome:
        began, generated = perf_counter(), process_time()
        usage = lambda: Usage(servers=[one.pid for one in running])  # noqa: E731
        sends = await throughput(running, SENDERS * len(running), seconds, usage, listeners=listeners)
        generator = (process_time() - generated) / (perf_counter() - began)
        return Outcome(
            {
                "deliveries": sends.rate,
                "number": sends.number,
                "server_cpu": 100 * sends.cpu["servers"] / sends.seconds,
                "generator_cpu": 100 * generator,
            }
        )

    return run
