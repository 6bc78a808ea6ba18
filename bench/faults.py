"""How much of what a second client was shown is lost after a fault: ``python -m bench.faults``, about five minutes.

Two instances of each server. In each room one client types and another one reads. A fault happens, everybody leaves,
and nobody brings anything back. Then a new client opens each room, and the tokens that the reader was shown and that
are not there are lost.
"""

import argparse
import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import uvloop
from picows import WSError

from . import cluster
from .client import Client, Crowd
from .cluster import Database, Redis, instances, kill
from .pacer import Due, Pacer
from .protocols import frame
from .servers import Peer, Server
from .updates import TOKENS, typed

ROOMS = 20
RATE = 10.0
"""Updates a second of each writer."""
BEFORE, AFTER = 3.0, 5.0
"""Seconds of typing before and after a fault."""
AWAY = 2.0
"""Seconds that an engine is away."""
SETTLED = 15.0
"""Seconds after which each server has stored what it will store: longer than a lease and than Hocuspocus' delay."""
PATIENCE = 60.0


class Loss(NamedTuple):
    """The number of updates that readers were shown, of those that are lost, and of the rooms with a loss."""

    shown: int
    lost: int
    rooms: int


class Deployment(NamedTuple):
    """Two instances and what they need."""

    servers: list[Server]
    database: Database
    redis: Redis


async def crash(deployment: Deployment) -> None:
    """Kill the instance of the writers."""
    await asyncio.to_thread(kill, deployment.servers[0])


async def redis_restarts(deployment: Deployment) -> None:
    """Restart Redis, which has no data then."""
    await asyncio.to_thread(deployment.redis.stop)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(deployment.redis.start)


async def database_restarts(deployment: Deployment) -> None:
    """Restart PostgreSQL, as an operator would."""
    await asyncio.to_thread(deployment.database.stop)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(deployment.database.start)


async def loss(deployment: Deployment, *, apart: bool, fault: Callable[[Deployment], object], rooms: str) -> Loss:
    """Let clients type and read, let a fault happen, and look what is lost.

    Args:
        deployment: what runs.
        apart: whether readers are at the other instance than writers.
        fault: what happens.
        rooms: begins their names.
    """
    here, there = Crowd(deployment.servers[0]), Crowd(deployment.servers[1 if apart else 0])
    writers = [await _entered(here, f"{rooms}-{number}", number) for number in range(ROOMS)]
    readers = [await _entered(there, f"{rooms}-{number}", 99, keep=True) for number in range(ROOMS)]
    count = round(RATE * (BEFORE + AFTER))
    schedule = sorted(
        (
            Due(
                number / ROOMS / RATE + one / RATE,
                _writing(writer),
                frame(here.server.dialect.update(writer.room, update)),
            )
            for number, writer in enumerate(writers)
            for one, update in enumerate(typed(number, count))
        ),
        key=lambda due: due.at,
    )
    typing = asyncio.create_task(Pacer(schedule).run())
    await asyncio.sleep(BEFORE)
    result = fault(deployment)
    assert asyncio.iscoroutine(result)
    await result
    await typing
    here.leave()
    there.leave()
    shown = [{found for _, payload in reader.frames for found in TOKENS.findall(payload)} for reader in readers]
    for server in deployment.servers:
        if server.process.poll() is not None:
            await server.start()
    await asyncio.sleep(SETTLED)
    again = Crowd(deployment.servers[1])
    lost = []
    for number, tokens in enumerate(shown):
        client = await _entered(again, f"{rooms}-{number}", 98, keep=True)
        stored = {found for _, payload in client.frames for found in TOKENS.findall(payload)}
        lost.append(len(tokens - stored))
    again.leave()
    return Loss(sum(map(len, shown)), sum(lost), sum(map(bool, lost)))


def _writing(writer: Client) -> Callable[[bytes], None]:
    def write(frames: bytes) -> None:
        if not writer.lost:
            writer.write(frames)

    return write


async def _entered(crowd: Crowd, room: str, number: int, *, keep: bool = False) -> Client:
    """Enter a room, again and again while it is refused."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await crowd.enter(room, number, keep=keep)
            except (WSError, OSError):
                await asyncio.sleep(0.2)


async def measure(names: list[str]) -> None:
    """Measure all servers and faults."""
    for name in names:
        with ExitStack() as stack:
            database, redis = stack.enter_context(cluster.database()), stack.enter_context(cluster.redis())
            peers: dict[str, Callable[[], Peer]] = {
                "ours": lambda: cluster.sync(database.url),  # noqa: B023
                "hocuspocus": lambda: cluster.hocuspocus(database.url, redis.port),  # noqa: B023
            }
            faults = [crash, database_restarts, *([redis_restarts] if name != "ours" else [])]
            async with instances(peers[name](), 2) as servers:
                deployment = Deployment(servers, database, redis)
                for fault in faults:
                    for apart in (False, True):
                        rooms = f"{fault.__name__}-{apart}"
                        shown, lost, where = await loss(deployment, apart=apart, fault=fault, rooms=rooms)
                        print(
                            f"{name}, {fault.__name__.replace('_', ' ')}, reader at the "
                            f"{'other' if apart else 'same'} instance: {shown} shown, {lost} lost "
                            f"({lost / shown:.1%}) in {where} of {ROOMS} rooms",
                            flush=True,
                        )


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="ours or hocuspocus; both by default")
    chosen = parser.parse_args()
    uvloop.run(measure(chosen.names or ["ours", "hocuspocus"]))


if __name__ == "__main__":
    main()
