"""The open loop: updates are sent when they are due, whether or not the server keeps up."""

import asyncio
import re
from time import perf_counter

from .client import Client, Crowd
from .outcome import Metric, Outcome, measured, quantile
from .pacer import Due, Pacer
from .protocols import frame
from .servers import Server
from .updates import TOKENS, token, typed

METRICS = (
    Metric("p50", "p50 ms", digits=2),
    Metric("p99", "p99 ms", digits=2),
    Metric("server_cpu", "server CPU %"),
    Metric("rss", "server RSS MiB"),
    Metric("generator_cpu", "generator CPU %", more=None),
    Metric("lag", "generator lag p99 ms", more=None, digits=2),
)


def first_seen(client: Client, tokens: re.Pattern[bytes]) -> dict[bytes, float]:
    """Return when each token first came to a client, of which everything was kept."""
    seen: dict[bytes, float] = {}
    for at, payload in client.frames:
        for found in tokens.findall(payload):
            seen.setdefault(found, at)
    return seen


async def open_loop(
    server: Server, *, rooms: int, clients: int, rate: float, warm: float, seconds: float, limit: float
) -> Outcome:
    """Let each of the `clients` in each of `rooms` send `rate` updates a second.

    Args:
        server: under test.
        rooms: how many.
        clients: in each room.
        rate: of each client, in updates a second.
        warm: seconds before anything counts.
        seconds: that count.
        limit: seconds after the last update in which everything has to be delivered.
    """
    crowd = Crowd(server, ends=rooms * clients * (clients - 1))
    await crowd.connect([f"room-{number:03}" for number in range(rooms)], clients)
    updates = round(rate * (warm + seconds))
    ignored = round(rate * warm)
    phases = {client: index / len(crowd.clients) / rate for index, client in enumerate(crowd.clients)}
    schedule = sorted(
        Due(phase + number / rate, client.write, frame(server.dialect.update(client.room, update)))
        for client, phase in phases.items()
        for number, update in enumerate(typed(client.number, updates))
    )
    for client in crowd.clients:
        client.keep = True
    pacer = Pacer(schedule)
    outcome = Outcome()
    with measured(server) as usage:
        await pacer.run()
        finished = await crowd.finish(limit)
        stopped = perf_counter()
    usage.record(outcome, per=warm + seconds)
    outcome.values["rss"] = server.memory().peak
    outcome.values["lag"] = 1000 * quantile(sorted(pacer.lags), 0.99)
    if outcome.values["lag"] > 10:
        outcome.notes.append("the generator came too late")
    # What has not come has taken at least until now.
    due = {(client.room, client.number): pacer.start + phase for client, phase in phases.items()}
    latencies: list[float] = []
    lost = 0
    for client in crowd.clients:
        seen = first_seen(client, TOKENS)
        for writer in range(clients):
            if writer == client.number:
                continue
            first = due[client.room, writer]
            for number in range(ignored, updates):
                came = seen.get(token(writer, number))
                lost += came is None
                latencies.append((came or stopped) - (first + number / rate))
        await asyncio.sleep(0)
    latencies.sort()
    outcome.values["p50"] = 1000 * quantile(latencies, 0.5)
    outcome.values["p99"] = 1000 * quantile(latencies, 0.99)
    outcome.values["arrived"] = 1 - lost / len(latencies)
    if lost:
        outcome.notes.append(f"{1 - lost / len(latencies):.0%} delivered {limit:.0f} s after the last was sent")
    if finished is not None and lost:
        outcome.notes.append("LOST updates")
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome
