"""Measures updates that are expensive to integrate: the server's answers, their costs, and whether they load again.

``python -m bench.expensive_updates`` sends each update of ``e2e/expensive_updates.py`` to a new sync server, and prints
a table. It asserts nothing.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from e2e.expensive_updates import SHAPES, Shape

from . import machine
from .protocols import STEP_1, UPDATE, read_varuint, varbytes
from .servers import OURS, Server, ServerError, running

SIZES = (10_000, 100_000, 1_000_000, 16_000_000)
LARGEST = 16_000_000
"""Bytes of one message; more are sent in several."""
LIMIT = 60.0
"""Seconds that each step may take."""
SILENCE = 2.0
"""Seconds after which nothing more comes of a document."""
ROOM = "shape"
ACKNOWLEDGEMENT = b"\x64"
COLUMNS = (
    *("shape", "bytes", "answer", "taken ms", "/health ms", "round trip ms", "RSS MiB"),
    *("loaded ms", "/health ms", "round trip ms", "RSS MiB", "export ms", "drained ms"),
)


@dataclass
class Row:
    """The row of one shape and size: one cell for each of `COLUMNS`."""

    cells: list[str]

    def __str__(self) -> str:
        return f"| {' | '.join(self.cells)} |"


class Watch:
    """The longest times of a health probe in milliseconds; none if the server ended its connection."""

    times: Sequence[float] = ()

    @property
    def cells(self) -> list[str]:
        """The cells of these times in the table."""
        return [f"{time:,.0f}" for time in self.times] if self.times else ["cut", "cut"]


@asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Watch]:
    """Let a health probe ask and work while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.health_probe", str(server.port)),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    watch = Watch()
    try:
        if await process.stdout.readline() != b"ready\n":
            raise ServerError("the health probe does not get through")
        yield watch
        process.stdin.close()
        watch.times = [float(time) for time in (await process.stdout.readline()).split()]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def messages(shape: Shape, size: int) -> Iterator[bytes]:
    """Yield the messages of updates of `size` bytes together."""
    parts = -(-size // LARGEST)
    for part in range(parts):
        # A message is a little larger than its update, and a shape than it was asked for.
        yield UPDATE + varbytes(shape.make(size // parts * 99 // 100, part))


async def _send(server: Server, room: str, updates: Sequence[bytes]) -> str:
    """Send messages; return what became of them: ``acknowledged``, or the code that the connection was closed with."""
    async with connect(f"{server.url(room)}?ack=true", compression=None, max_size=None, ping_interval=None) as client:
        try:
            for update in updates:
                await client.send(update)
            async with asyncio.timeout(LIMIT):
                while True:
                    message = await client.recv()
                    assert isinstance(message, bytes)
                    if message[:1] == ACKNOWLEDGEMENT and read_varuint(message, 1)[0] == len(updates):
                        return "acknowledged"
        except ConnectionClosed as closed:
            return str(closed.rcvd.code if closed.rcvd else 1006)
        except TimeoutError:
            return "none"


async def _load(server: Server, size: int) -> str:
    """Open the document; return the milliseconds until all of it has come, or what came in its place.

    It may come in several messages. A server may have made it smaller than `size` bytes: then nothing follows the last
    one for a while, and its size is told, too.
    """
    began = last = perf_counter()
    came = 0
    try:
        async with connect(
            server.url(ROOM), compression=None, max_size=None, ping_interval=None, open_timeout=LIMIT
        ) as client:
            await client.send(STEP_1)
            while came < size * 0.95:
                async with asyncio.timeout(LIMIT if came == 0 else SILENCE):
                    message = await client.recv()
                assert isinstance(message, bytes)
                if message[:2] in (b"\x00\x01", b"\x00\x02"):
                    last = perf_counter()
                    came += len(message)
    except ConnectionClosed as closed:
        return f"closed with {closed.rcvd.code if closed.rcvd else 1006}"
    except TimeoutError:
        if came == 0:
            return "none"
    took = f"{(last - began) * 1000:,.0f}"
    return took if came >= size * 0.95 else f"{took} ({came:,} bytes)"


async def _export(server: Server) -> str:
    """Export the document of a server that has ended; return the milliseconds that it took, or what was wrong."""
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opennoodl_sync", "export", ROOM),
        env={**os.environ, "PERSIST_DIR": str(server.data)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(LIMIT):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return "none"
    return f"{(perf_counter() - began) * 1000:,.0f}" if code == 0 else f"exit code {code}"


async def _drained(updates: Sequence[bytes], core: int | None) -> str:
    """End a server as an operator would while it takes messages; return the milliseconds until it has ended."""
    async with running(OURS, core) as server:
        sending = asyncio.create_task(_send(server, ROOM, updates))
        await asyncio.sleep(0.05)
        began = perf_counter()
        code = await server.stop()
        took = perf_counter() - began
        await asyncio.gather(sending, return_exceptions=True)
    return f"{took * 1000:,.0f}" if code == 0 else f"exit code {code} after {took * 1000:,.0f}"


async def measure(name: str, size: int, attackers: int, core: int | None) -> Row:
    """Measure one shape.

    Args:
        name: of the shape.
        size: bytes of all of its updates.
        attackers: clients that send it at the same time, each to a room of its own.
        core: the core that the server must stay on; None for any.
    """
    updates = list(messages(SHAPES[name], size))
    total = sum(map(len, updates))
    async with running(OURS, core) as server:
        idle = server.memory().now
        async with watching(server) as taking:
            began = perf_counter()
            answers = await asyncio.gather(
                _send(server, ROOM, updates),
                *(_send(server, f"{ROOM}-{other}", updates) for other in range(1, attackers)),
            )
            took = perf_counter() - began
        answer = answers[0] if len(set(answers)) == 1 else ", ".join(answers)
        used = server.memory().peak - idle
        cells = [name, f"{total:,}", answer, f"{took * 1000:,.0f}", *taking.cells, f"+{used:,.0f}"]
        if answers[0] != "acknowledged":
            return Row([*cells, *["-"] * (len(COLUMNS) - len(cells))])
        await server.restart()
        idle = server.memory().now
        async with watching(server) as loading:
            loaded = await _load(server, total)
        cells += [loaded, *loading.cells, f"+{server.memory().peak - idle:,.0f}"]
        await server.stop()
        cells.append(await _export(server))
    return Row([*cells, await _drained(updates, core)])


async def table(names: Sequence[str], sizes: Sequence[int], attackers: int, cores: machine.Cores) -> None:
    """Print a row for each shape and size."""
    os.sched_setaffinity(0, {cores.generator})
    print(f"{machine.shape()}; {attackers} at once. RSS: the peak over that of the idle server.\n")
    print(Row(list(COLUMNS)))
    print(Row(["---", "---:", "---", *["---:"] * (len(COLUMNS) - 3)]))
    for name in names:
        for size in sizes:
            try:
                row = await measure(name, size, attackers, cores.server)
            except (ServerError, OSError) as error:
                row = Row([name, f"{size:,}", f"FAILED: {str(error).splitlines()[0]}"])
            print(row, flush=True)


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.expensive_updates", description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of these (all by default): {', '.join(SHAPES)}")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="BYTES", help="of the updates together")
    parser.add_argument("--attackers", type=int, default=1, help="clients that send at once, each to its own room")
    chosen = parser.parse_args()
    unknown = set(chosen.shapes) - set(SHAPES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(SHAPES)}")
    uvloop.run(table(chosen.shapes or list(SHAPES), chosen.sizes, chosen.attackers, machine.cores()))


if __name__ == "__main__":
    main()
