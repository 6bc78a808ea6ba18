"""The compactor: a process that compacts, and what happens when it fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.workers import compactor as module
from opennoodl_sync.workers.compactor import Compacted, CompactionError, Compactor
from opennoodl_sync.yjs.lib0 import finish, write_varuint
from opennoodl_sync.yjs.segment_index import read_segment

from ..edge.harness import TIMEOUT
from ..raw import item, section, text, update

pytestmark = pytest.mark.slow

TYPED = [update(section(7, n, item(text("ab"), **({"origin": (7, n - 1)} if n else {})))) for n in range(0, 200, 2)]
WHOLE = update(section(7, 0, item(text("ab" * 100))))
# Sections of one struct each take longest.
LONG = [write_varuint(200_000) + b"".join(section(n, 0, b"\x00\x01") for n in range(200_000, 0, -1)) + b"\x00"]


@pytest.fixture
async def compactor() -> AsyncIterator[Compactor]:
    """Return a compactor."""
    compactor = Compactor()
    yield compactor
    await compactor.close()


def pieces(updates: list[bytes]) -> list[list[bytes]]:
    """Return updates of one piece each."""
    return [[update] for update in updates]


def pid(compactor: Compactor) -> int:
    """Return the process that a compactor has now."""
    assert compactor._process is not None
    return compactor._process.pid


async def begun(compactor: Compactor) -> asyncio.Task[Compacted]:
    """Return a job that has begun, and that a process which is stopped does not end."""
    os.kill(pid(compactor), signal.SIGSTOP)
    job = asyncio.create_task(compactor.compact(pieces(LONG)))
    await asyncio.sleep(0)
    assert compactor._turn.locked()
    return job


async def until_gone(process: int) -> None:
    """Wait until a process is gone, or dead at least."""
    async with asyncio.timeout(TIMEOUT):
        while is_alive(process):  # noqa: ASYNC110 - nothing tells of processes that are not one's own
            await asyncio.sleep(0.01)


def is_alive(process: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat")
        return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):  # it may end between the two
        return False


async def test_many_updates_become_one(compactor: Compactor) -> None:
    """Many updates become one, with its index and its segment."""
    compacted = await compactor.compact(pieces(TYPED))
    assert compacted.update == WHOLE
    assert compacted.pending is None
    assert finish(compacted.segment.write()) == WHOLE
    assert finish(read_segment(WHOLE, compacted.index)).arrays() == compacted.segment.arrays()


async def test_pending_updates_are_handed_back(compactor: Compactor) -> None:
    """An update that came before its predecessor is not in what was compacted."""
    compacted = await compactor.compact(pieces([TYPED[0], TYPED[2]]))
    assert compacted.update == TYPED[0]
    assert compacted.pending == TYPED[2]


async def test_nothing_is_compacted(compactor: Compactor) -> None:
    """A document without updates is the update that changes nothing."""
    assert (await compactor.compact(pieces([]))).update == b"\x00\x00"


async def test_a_large_document_is_compacted(compactor: Compactor) -> None:
    """Jobs and answers of several megabytes go through the pipes."""
    large = update(section(7, 0, item(text("x" * 5_000_000))))
    assert (await compactor.compact(pieces([large]))).update == large


async def test_one_process_does_all_jobs(compactor: Compactor) -> None:
    """Jobs that come at once are done one after the other, in their order."""
    done: list[int] = []

    async def compact(number: int) -> Compacted:
        compacted = await compactor.compact(pieces([TYPED[0], *TYPED[: number + 1]]))
        done.append(number)
        return compacted

    results = await asyncio.gather(*(compact(number) for number in range(5)))
    assert done == [0, 1, 2, 3, 4]
    assert [result.segment.state(7) for result in results] == [2, 4, 6, 8, 10]
    first = pid(compactor)
    await compactor.compact(pieces(TYPED))
    assert pid(compactor) == first


async def test_a_damaged_update_is_reported(compactor: Compactor) -> None:
    """The error says which record and what is wrong with it; the next job is done."""
    with pytest.raises(CompactionError, match="record 1 is not a Yjs update"):
        await compactor.compact(pieces([WHOLE, b"junk"]))
    assert (await compactor.compact(pieces(TYPED))).update == WHOLE


async def test_a_killed_process_is_replaced(compactor: Compactor) -> None:
    """The job that it was at fails, and the next one is done by a new process."""
    await compactor.compact(pieces(TYPED))
    killed = pid(compactor)
    job = await begun(compactor)
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(CompactionError, match="its process ended"):
        await job
    assert (await compactor.compact(pieces(TYPED))).update == WHOLE
    assert pid(compactor) != killed


async def test_a_process_that_was_killed_while_idle_is_replaced(compactor: Compactor) -> None:
    """No job fails for that, or only the one that came at the same time."""
    await compactor.compact(pieces(TYPED))
    killed = pid(compactor)
    assert compactor._process is not None
    os.kill(killed, signal.SIGKILL)
    await compactor._process.wait()
    assert (await compactor.compact(pieces(TYPED))).update == WHOLE


async def test_a_job_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is killed, and the next job is done."""
    monkeypatch.setattr(module, "RATE", 10**12)
    compactor = Compactor(seconds=0.2)
    try:
        with pytest.raises(CompactionError, match="it took longer than 0 seconds"):
            await compactor.compact(pieces(LONG))
        assert compactor._process is None
        compactor._seconds = 30
        assert (await compactor.compact(pieces(TYPED))).update == WHOLE
    finally:
        await compactor.close()


async def test_a_cancelled_job_does_not_answer_the_next_one(compactor: Compactor) -> None:
    """Its process is killed."""
    await compactor.compact(pieces(TYPED))
    job = await begun(compactor)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert (await compactor.compact(pieces(TYPED))).update == WHOLE


async def test_an_idle_process_ends() -> None:
    """It takes no memory where nothing is compacted, and is there again when something is."""
    compactor = Compactor(idle=0.01)
    try:
        await compactor.compact(pieces(TYPED))
        first = pid(compactor)
        await until_gone(first)
        assert compactor._process is None
        assert (await compactor.compact(pieces(TYPED))).update == WHOLE
        assert pid(compactor) != first
    finally:
        await compactor.close()


async def test_close_ends_the_process(compactor: Compactor) -> None:
    """Compactions under way and waiting ones fail at once, and none begins any more."""
    await compactor.compact(pieces(TYPED))
    process = pid(compactor)
    jobs = [await begun(compactor), asyncio.create_task(compactor.compact(pieces(TYPED)))]
    await compactor.close()
    await until_gone(process)
    for job in jobs:
        with pytest.raises(CompactionError, match="the server is stopping"):
            await job
    with pytest.raises(CompactionError, match="the server is stopping"):
        await compactor.compact(pieces(TYPED))


async def test_close_without_a_job(compactor: Compactor) -> None:
    """No process is started for that."""
    await compactor.close()
    assert compactor._process is None


async def test_signals_of_the_group_do_not_end_a_job(compactor: Compactor) -> None:
    """Ctrl-C and SIGTERM are the server's business, which ends the process."""
    await compactor.compact(pieces(TYPED))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid(compactor), number)
    first = pid(compactor)
    assert (await compactor.compact(pieces(TYPED))).update == WHOLE
    assert pid(compactor) == first


SERVER = """
import asyncio
from opennoodl_sync.workers.compactor import Compactor

async def main():
    compactor = Compactor()
    await compactor.compact([])
    print(compactor._process.pid, flush=True)
    await compactor.compact([[bytes.fromhex(input())]])

asyncio.run(main())
"""


def ticks(process: int) -> int:
    """Return the CPU time that a process has used, in the unit of the system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_killed_server_leaves_no_process() -> None:
    """The process of a server that is killed ends in the middle of a job."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        process = int(server.stdout.readline())
        before = ticks(process)
        server.stdin.write(LONG[0].hex().encode() + b"\n")
        server.stdin.flush()
        end = time.monotonic() + TIMEOUT
        while ticks(process) < before + 2:  # it has the job; on a busy machine it is given little time, being nice
            assert time.monotonic() < end, "the job does not begin"
            time.sleep(0.01)
        server.kill()
    asyncio.run(until_gone(process))


def test_the_process_is_light() -> None:
    """It imports the engine, and nothing of the server, its libraries, or pycrdt."""
    program = "import sys, opennoodl_sync.workers.compaction_process; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "websockets", "pycrdt", "plyvel", "msgspec", "structlog", "httpx"} & set(loaded)
    ours = {name for name in loaded if name.startswith("opennoodl_sync.") and not name.startswith("opennoodl_sync.yjs")}
    workers = {f"opennoodl_sync.workers{name}" for name in ("", ".compaction_process", ".limits", ".messages")}
    assert ours == {*workers, "opennoodl_sync.memory", "opennoodl_sync.memory.allocator"}
