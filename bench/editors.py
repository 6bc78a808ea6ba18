"""Editors at work: each user moves a cursor all the time and types now and then, and there are more and more users."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from .client import Client, Crowd
from .open_loop import first_seen
from .outcome import Metric, Outcome, measured, quantile
from .pacer import Due, Pacer
from .protocols import frame
from .servers import Server
from .updates import CURSORS, TOKENS, cursor, moves, token, typed

ROOM = 5
"""Users of a room."""
MOVES = 10
"""Awareness updates that a user sends in a second."""
BOUND = 100.0
"""Milliseconds that the slowest hundredth may take."""
LATE = 10.0
"""Milliseconds by which the generator may be late."""


def metrics(users: int) -> tuple[Metric, ...]:
    """Return the columns; all but the first are read with so many `users`."""
    return (
        Metric("users", f"users within p99 {BOUND:.0f} ms", more=True),
        Metric("p50", f"p50 ms at {users}", digits=2),
        Metric("p99", f"p99 ms at {users}", digits=2),
        Metric("server_cpu", f"server CPU % at {users}"),
        Metric("generator_cpu", f"generator CPU % at {users}", more=None),
        Metric("lag", "generator lag p99 ms", more=None, digits=2),
    )


@dataclass(frozen=True)
class Pace:
    """How long one number of users is tried.

    Attributes:
        warm: seconds before anything counts.
        seconds: that count.
        limit: seconds after the last edit in which everything has to be delivered.
    """

    warm: int
    seconds: int
    limit: float


async def doubled(server: Server, *, users: int, most: int, pace: Pace) -> Outcome:
    """Find how many users a server can have, by doubling or halving their number.

    Args:
        server: under test.
        users: the number to begin with, at which CPU and latencies are read.
        most: the largest number that is tried.
        pace: how long each number is tried.
    """
    first = await work(server, users, pace)
    within, beyond = (users, None) if _is_within(first) else (0, (users, first))
    if within:
        while beyond is None and within * 2 <= most:
            more = await work(server, within * 2, pace)
            if _is_within(more):
                within *= 2
            else:
                beyond = (within * 2, more)
    else:
        fewer = users
        while not within and fewer > ROOM:
            fewer = max(ROOM, fewer // 2 // ROOM * ROOM)
            less = await work(server, fewer, pace)
            if _is_within(less):
                within = fewer
            else:
                beyond = (fewer, less)
    first.values["users"] = within
    if beyond is None:
        first.notes.append(f"more than {within} users were not tried")
    else:
        tried, outcome = beyond
        first.notes.append(f"p99 {outcome.values['p99']:,.0f} ms with {tried} users")
        first.notes += [f"with {tried} users {note}" for note in outcome.notes if outcome is not first]
    return first


def _is_within(outcome: Outcome) -> bool:
    return outcome.values["p99"] <= BOUND and outcome.values["arrived"] == 1


async def work(server: Server, users: int, pace: Pace) -> Outcome:
    """Let so many users edit in rooms of `ROOM`; each sends `MOVES` awareness updates and one edit a second.

    A latency is the time from when something was due until one other user has it. A server may leave out an
    awareness update when it has a later one of the same user: the user's cursor then is where it should be.
    """
    rooms, edits = users // ROOM, pace.warm + pace.seconds
    crowd = Crowd(server, ends=rooms * ROOM * (ROOM - 1))
    await crowd.connect([f"editors-{users}-{number:04}" for number in range(rooms)], ROOM)
    phases = {client: index / len(crowd.clients) for index, client in enumerate(crowd.clients)}
    sends = (due for client, phase in phases.items() for due in _schedule(server, client, phase, edits))
    schedule = sorted(sends, key=lambda due: due.at)
    for client in crowd.clients:
        client.keep = True
    pacer = Pacer(schedule)
    outcome = Outcome()
    with measured(server) as usage:
        await pacer.run()
        await crowd.finish(pace.limit)
        stopped = perf_counter()
    usage.record(outcome, per=edits)
    outcome.values["lag"] = 1000 * quantile(sorted(pacer.lags), 0.99)
    if outcome.values["lag"] > LATE:
        outcome.notes.append("the generator came too late")
    latencies: list[float] = []
    lost = 0
    starts = {(client.room, client.number): pacer.start + phase for client, phase in phases.items()}
    for client in crowd.clients:
        found, missing = _latencies(client, starts, pace, stopped)
        latencies += found
        lost += missing
        await asyncio.sleep(0)
    latencies.sort()
    outcome.values["p50"] = 1000 * quantile(latencies, 0.5)
    outcome.values["p99"] = 1000 * quantile(latencies, 0.99)
    outcome.values["arrived"] = 1 - lost / len(latencies)
    if lost:
        outcome.notes.append(f"{1 - lost / len(latencies):.1%} delivered {pace.limit:.0f} s after the last was sent")
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome


def _schedule(server: Server, client: Client, phase: float, seconds: int) -> Iterator[Due]:
    """Yield what a user sends: `MOVES` awareness updates a second, the first one `phase` seconds in, and an edit."""
    for number, update in enumerate(moves(client.number, MOVES * seconds)):
        at = phase + number / MOVES
        yield Due(at, client.write, frame(server.dialect.awareness(client.room, update)))
    for number, update in enumerate(typed(client.number, seconds)):
        # After the last move of its second, so that everything else has come when the last edit has.
        at = phase + number + (MOVES - 0.5) / MOVES
        yield Due(at, client.write, frame(server.dialect.update(client.room, update)))


def _latencies(
    client: Client, starts: dict[tuple[str, int], float], pace: Pace, stopped: float
) -> tuple[list[float], int]:
    """Return how long everything took that others sent to a client, and how much of it has not come by `stopped`."""
    seen, moved = first_seen(client, TOKENS), first_seen(client, CURSORS)
    latencies: list[float] = []
    lost = 0
    seconds = pace.warm + pace.seconds
    for writer in range(ROOM):
        if writer == client.number:
            continue
        start = starts[client.room, writer]
        for number in range(pace.warm, seconds):
            came = seen.get(token(writer, number))
            lost += came is None
            latencies.append((came or stopped) - (start + number + (MOVES - 0.5) / MOVES))
        # From the last one back, since a later one stands for those before it.
        came = None
        for number in range(MOVES * seconds - 1, MOVES * pace.warm - 1, -1):
            at = moved.get(cursor(writer, number))
            came = at if came is None or (at is not None and at < came) else came
            lost += came is None
            latencies.append((came or stopped) - (start + number / MOVES))
    return latencies, lost
