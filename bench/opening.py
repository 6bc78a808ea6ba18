"""Opening: a large document, many rooms at once, and what a connection costs that does nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

from .client import Crowd
from .outcome import Metric, Outcome, measured
from .servers import Server

DOCUMENT_METRICS = (
    Metric("there", "document there ms"),
    Metric("hold", "longest hold ms"),
    Metric("rss", "server RSS MiB"),
)
ROOMS_METRICS = (
    Metric("hold", "longest hold ms"),
    Metric("there", "all documents there ms"),
    Metric("generator_cpu", "generator CPU %", more=None),
)
IDLE_METRICS = (Metric("kib", "KiB a connection", digits=1), Metric("rss", "server RSS MiB", more=None))
REST = 1.0
"""Seconds in which a server comes to rest before its memory is read."""


class Hold:
    """The longest hold of the event loop that a probe has seen, in milliseconds."""

    ms = 0.0


@asynccontextmanager
async def probing(server: Server, greeting: bytes | None = None) -> AsyncIterator[Hold]:
    """Let a probe ping in a room of its own while the block runs, or in none but after `greeting`, a text."""
    room = "probe" if greeting is None else ""
    messages = server.dialect.greeting(room) if greeting is None else [greeting]
    said = ",".join(message.hex() for message in messages)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.ping_probe", str(server.port), room, said),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hold = Hold()
    try:
        ready = await process.stdout.readline()
        assert ready == b"ready\n", "the probe does not get through"
        yield hold
        process.stdin.close()
        hold.ms = float(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def first_client(server: Server, *, room: str, size: int, limit: float) -> Outcome:
    """Open a stored document of about `size` bytes and wait until its last part has come.

    That may be later than step 2: y-websocket's server answers before it has loaded the document.
    """
    crowd = Crowd(server, ends=1)
    outcome = Outcome()
    async with probing(server) as hold:
        with measured(server):
            started = perf_counter()
            # The token of end is of writer 0.
            entering = asyncio.create_task(crowd.enter(room, 1, keep=True))
            finished = await crowd.finish(limit)
        came = sum(len(payload) for _, payload in (await entering).frames)
    outcome.values |= {"hold": hold.ms, "rss": server.memory().peak}
    outcome.values["there"] = 1000 * ((finished or started + limit) - started)
    outcome.values["arrived"] = float(finished is not None)
    if finished is None:
        outcome.notes.append(f"not there after {limit:.0f} s")
    elif came < size * 0.95:
        outcome.notes.append(f"LOST: {came} bytes came")
    crowd.leave()
    return outcome


async def many_rooms(server: Server, *, rooms: int, limit: float) -> Outcome:
    """Open `rooms` stored documents at once, each by a client of its own."""
    crowd = Crowd(server, ends=rooms)
    outcome = Outcome()
    async with probing(server) as hold:
        with measured(server) as usage:
            started = perf_counter()
            entering = asyncio.create_task(crowd.connect(stored_rooms(rooms), 1, first=1, at_once=rooms))
            finished = await crowd.finish(limit)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    usage.record(outcome)
    outcome.values |= {"hold": hold.ms, "there": 1000 * ((finished or started + limit) - started)}
    outcome.values["arrived"] = 1 - crowd.missing / rooms
    if finished is None:
        outcome.notes.append(f"{rooms - crowd.missing} of {rooms} there after {limit:.0f} s")
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome


def stored_rooms(count: int) -> list[str]:
    """Return the names of rooms that are there before the server starts."""
    return [f"stored-{number:04}" for number in range(count)]


async def idle(server: Server, *, connections: int, clients: int) -> Outcome:
    """Let clients in that say nothing after their first sync, `clients` to a room."""
    crowd = Crowd(server)
    # Whatever is made once, and not once for each connection, is there before the clock starts.
    await crowd.connect(["first"], clients)
    await asyncio.sleep(REST)
    before = server.memory().now
    await crowd.connect([f"room-{number:03}" for number in range(connections // clients)], clients)
    await asyncio.sleep(REST)
    after = server.memory().now
    outcome = Outcome({"kib": 1024 * (after - before) / connections, "rss": after, "arrived": 1})
    outcome.note_hang_ups(crowd.hang_ups)
    crowd.leave()
    return outcome
