"""Saturation: writers send as fast as their transports take it, until everybody has everything."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from pycrdt import Doc, Text

from .client import Client, Crowd
from .machine import TICKS
from .outcome import Metric, Outcome, measured
from .protocols import frame
from .servers import Server
from .updates import MARK_EVERY, TOKENS, Recording, typed

METRICS = (
    Metric("deliveries", "deliveries/s", more=True),
    Metric("server_cpu", "server CPU %", more=None),
    Metric("generator_cpu", "generator CPU %", more=None),
)
DRAWN_METRICS = (
    Metric("deliveries", "deliveries/s, median", more=True),
    Metric("spread", "longest by shortest run", digits=2),
    Metric("cpu", "server CPU s, median", digits=2),
    Metric("cpu_spread", "most by least CPU s", digits=2),
)
RECORDING_METRICS = (Metric("updates", "updates/s", more=True), *METRICS[1:])
TOGETHER = 16
"""Frames that a writer hands to its transport at once."""
SAMPLES = 5
"""Clients of which everything is kept, to see afterwards that nothing is missing."""
READERS = 3
"""Clients that read a replayed recording."""


class FanOut(NamedTuple):
    """A load: in each of `rooms`, `writers` of the `clients` send `updates` each."""

    rooms: int
    clients: int
    writers: int
    updates: int


async def fan_out(server: Server, load: FanOut, limit: float, prefix: str = "room", ids: Sequence[int] = ()) -> Outcome:
    """Let everybody send, and wait until everybody has everything, or for `limit` seconds.

    A delivery is one update at one client that did not send it. The rooms' names begin with `prefix`. The writers of
    a room have the Yjs client ids `ids`, or else always the same ones.
    """
    rooms, clients, writers, updates = load
    crowd = Crowd(server, ends=rooms * writers * (clients - 1))
    names = [f"{prefix}-{number:03}" for number in range(rooms)]
    await crowd.connect(names, clients)
    # The last ones of some rooms: they write the least.
    samples = crowd.clients[:: -max(1, len(crowd.clients) // SAMPLES)][:SAMPLES]
    for client in samples:
        client.keep = True
    loads = [
        (client, _chunks(server, client.room, typed(client.number, updates, ids[client.number] if ids else None)))
        for client in crowd.clients
        if client.number < writers
    ]
    outcome = Outcome()
    with measured(server) as usage:
        started = perf_counter()
        finished = await _send(crowd, loads, limit)
    usage.record(outcome)
    expected = [_tokens_of_others(client, writers, updates) for client in samples]
    found = [len(_tokens(client) & tokens) for client, tokens in zip(samples, expected, strict=True)]
    share = sum(found) / sum(map(len, expected))
    deliveries = rooms * writers * updates * (clients - 1) * share
    outcome.values["seconds"] = (finished or started + limit) - started
    outcome.values["deliveries"] = deliveries / outcome.values["seconds"]
    outcome.values["arrived"] = share
    if finished is None:
        outcome.notes.append(f"{share:.0%} delivered after {limit:.0f} s")
    elif share < 1:
        outcome.notes.append(f"LOST {1 - share:.1%} of the updates")
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome


async def drawn(server: Server, load: FanOut, runs: int, limit: float) -> Outcome:
    """Repeat a load in rooms of their own, with Yjs client ids that are drawn anew for each.

    The order of the ids decides where Yjs puts what is written at one place, and so how much work a server has that
    integrates.
    """
    outcomes = []
    for number in range(runs):
        ids = [secrets.randbits(32) for _ in range(load.writers)]
        outcomes.append(await fan_out(server, load, limit, prefix=f"drawn-{number}", ids=ids))
    seconds = [outcome.values["seconds"] for outcome in outcomes]
    cpu = [outcome.values["server_cpu"] / 100 * took for outcome, took in zip(outcomes, seconds, strict=True)]
    values = {"deliveries": median(outcome.values["deliveries"] for outcome in outcomes)}
    values |= {"spread": max(seconds) / min(seconds), "cpu": median(cpu)}
    # A short run may take less than a tick of the system's clock.
    values["cpu_spread"] = max(cpu) / max(min(cpu), 1 / TICKS)
    values["arrived"] = min(outcome.values["arrived"] for outcome in outcomes)
    return Outcome(values, [note for outcome in outcomes for note in outcome.notes])


async def replay(server: Server, recording: Recording, limit: float) -> Outcome:
    """Let one client send a whole recording to readers; afterwards, look whether one of these has the text."""
    crowd = Crowd(server, ends=READERS)
    room = "recording"
    await crowd.connect([room], READERS + 1)
    # They come in as they please.
    crowd.clients.sort(key=lambda client: client.number)
    writer = crowd.clients[0]
    reader = crowd.clients[-1]
    reader.keep = True
    outcome = Outcome()
    chunks = _chunks(server, room, recording.updates)
    with measured(server) as usage:
        started = perf_counter()
        finished = await _send(crowd, [(writer, chunks)], limit)
    usage.record(outcome)
    count = len(recording.updates)
    if finished is None:
        count = len(_tokens(reader)) * MARK_EVERY
        outcome.notes.append(f"{count / len(recording.updates):.0%} delivered after {limit:.0f} s")
    elif _text(server, reader) != recording.text:
        outcome.notes.append("LOST: the text is not what was recorded")
    else:
        outcome.values["arrived"] = 1
    outcome.values["updates"] = count / ((finished or started + limit) - started)
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome


async def _send(crowd: Crowd, loads: Sequence[tuple[Client, Sequence[bytes]]], limit: float) -> float | None:
    tasks = [asyncio.create_task(_write(client, chunks)) for client, chunks in loads]
    try:
        return await crowd.finish(limit)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(client: Client, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        await client.writable.wait()
        if client.lost:
            return
        client.write(chunk)
        # Everybody else's turn, to write and to read.
        await asyncio.sleep(0)


def _chunks(server: Server, room: str, updates: Sequence[bytes]) -> list[bytes]:
    frames = [frame(server.dialect.update(room, update)) for update in updates]
    return [b"".join(frames[at : at + TOGETHER]) for at in range(0, len(frames), TOGETHER)]


def _tokens(client: Client) -> set[bytes]:
    return {found for _, payload in client.frames for found in re.findall(TOKENS, payload)}


def _tokens_of_others(client: Client, writers: int, updates: int) -> set[bytes]:
    return {
        b"w%02dn%06d" % (writer, number)
        for writer in range(writers)
        if writer != client.number
        for number in range(updates)
    }


def _text(server: Server, client: Client) -> str:
    doc: Doc[Any] = Doc()
    text = doc.get("text", type=Text)
    with doc.transaction():
        for _, payload in client.frames:
            update = server.dialect.content(payload)
            if update is not None:
                doc.apply_update(update)
    return str(text)
