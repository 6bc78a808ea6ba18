"""Versions of a document: how large they are, how long it takes to make, keep, list and restore them.

``python -m bench.versions`` keeps 1,000 versions of one document in LevelDB, and prints a table. It asserts nothing.
The document is a recorded session if there is one, or else a component graph.
"""

import argparse
import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any, NamedTuple, TypeVar

from opennoodl_sync.storage.interface import Version
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.versions.making import Limits, make_version, restoring_update
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish
from pycrdt import Doc, Map, Text

from . import updates as made

ROOM = "room"
RECORDING = "automerge-paper"
FIRST = 1_700_000_000
"""The time of the first version, in seconds since 1970; one is made each hour."""

T = TypeVar("T")


class Cost(NamedTuple):
    """The cost of an operation.

    Attributes:
        seconds: on the clock.
        processes: seconds of CPU in its processes.
        hold: the longest time for which it held the event loop, in milliseconds of CPU.
    """

    seconds: float
    processes: float
    hold: float

    def __str__(self) -> str:
        times = f"{self.seconds:.2f} s, {self.processes:.2f} s of CPU in processes"
        return f"{times}, the event loop held for {self.hold:.1f} ms at most"


class Loop:
    """Turns the event loop, and knows the longest turn since `reset`, in milliseconds of CPU."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def turn(self) -> None:
        """Turn it for ever."""
        began = thread_time()
        while True:
            await asyncio.sleep(0)
            ended = thread_time()
            self.longest = max(self.longest, 1000 * (ended - began))
            began = ended


async def cost(act: Callable[[], Awaitable[T]]) -> tuple[T, Cost]:
    """Do something, and return its result and its cost."""
    loop = Loop()
    turning = asyncio.create_task(loop.turn())
    await asyncio.sleep(0)
    began, processes = perf_counter(), _processes()
    result = await act()
    seconds = perf_counter() - began
    await asyncio.sleep(0)
    turning.cancel()
    return result, Cost(seconds, _processes() - processes, loop.longest)


def _processes() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def updates_of(edits: int) -> Sequence[bytes]:
    """Return the updates of a document: a recording's, or else generated ones."""
    recording = made.recorded(RECORDING, edits)
    return made.document(50 * edits, 100) if recording is None else recording.updates


def halved(updates: Sequence[bytes]) -> list[bytes]:
    """Return one more update, which deletes half of the text or of the nodes."""
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    before, text, nodes = doc.get_state(), doc.get("text", type=Text), doc.get("nodes", type=Map)
    with doc.transaction():
        del text[: len(text) // 2]
        for name in list(nodes)[::2]:
            del nodes[name]
    return [doc.get_update(before)]


async def store_updates(store: LevelDBStore, updates: Sequence[bytes]) -> bytes:
    """Store updates of the document as one that is compacted; return all of it."""
    records, stored = await store.open(ROOM)
    compacted, _ = finish(compact_records([*stored.updates, *updates]))
    whole = finish(compacted.write())
    document = Document()
    finish(document.load([whole]))
    batch = store.writer.batch()
    records.append([whole], document.state_vector, batch)
    await store.store(batch)
    return whole


async def measure(directory: Path, count: int, edits: int) -> None:
    """Measure, and print a table."""
    updates = updates_of(edits)
    store = LevelDBStore(str(directory), fsync="false")
    try:
        whole = await store_updates(store, updates)
        history = await store.history(ROOM)
        (version, content), made = await cost(lambda: make_version(store, ROOM, history, Limits()))
        print("| what | cost |\n| --- | --- |")
        print(f"| the document | {len(whole):,} bytes |")
        print(f"| one version | {len(content):,} bytes; {made} |")
        before, writes, hold = _size(directory), [], 0.0
        for number in range(count):
            one = Version(FIRST + 3600 * number, len(content), version.last)
            _, written = await cost(lambda one=one: store.change_versions(ROOM, [(one, content)], []))  # type: ignore[misc]
            writes.append(1000 * written.seconds)
            hold = max(hold, written.hold)
        p99 = quantiles(writes, n=100)[98] if len(writes) > 1 else writes[0]
        print(f"| {count:,} versions | {(_size(directory) - before) / 1e6:,.1f} MB on disk |")
        times = f"{median(writes):.1f} ms (p50), {p99:.1f} ms (p99)"
        print(f"| to keep one | {times}, the event loop held for {hold:.1f} ms at most |")
        _, listed = await cost(lambda: store.history(ROOM))
        print(f"| to list them | {listed} |")
        await store_updates(store, halved(updates))
        (_, present), _ = await cost(lambda: make_version(store, ROOM, history, Limits()))
        update, restored = await cost(lambda: restoring_update(content, present))
        print(f"| to restore it after half of it was deleted | an update of {len(update):,} bytes; {restored} |")
    finally:
        await store.close()


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on the command line's terms."""
    parser = argparse.ArgumentParser(prog="python -m bench.versions", description=__doc__)
    parser.add_argument("--versions", type=int, default=1000, help="how many are kept (%(default)s)")
    parser.add_argument("--edits", type=int, default=300_000, help="of the recording, at most (%(default)s)")
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="opennoodl-bench-") as directory:
        asyncio.run(measure(Path(directory), chosen.versions, chosen.edits))


if __name__ == "__main__":
    main(sys.argv[1:])
