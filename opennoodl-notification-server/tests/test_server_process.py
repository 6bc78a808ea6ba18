"""The server as a process: what it promised is there after whatever ended it."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from .harness import TIMEOUT, Client, content, health, ids, stored
from .process import Process

Start = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start(file: Path) -> AsyncIterator[Start]:
    """Start the server; it ends with the test."""
    processes: list[Process] = []

    async def start_() -> Process:
        processes.append(await Process.start(str(file)))
        return processes[-1]

    yield start_
    for process in processes:
        await process.kill()


async def test_sigterm_stores_everything(start: Start, file: Path) -> None:
    """On SIGTERM, clients are told to connect again, everything is stored, and the process ends without error."""
    process = await start()
    client = await Client.connect(process.port)
    await client.authenticate("s")
    sent = {await client.notify("u") for _ in range(3)}
    process.child.terminate()
    assert await client.closed() == 1001
    async with asyncio.timeout(TIMEOUT):
        assert await process.child.wait() == 0
    assert set(stored(file)) == sent


def put(file: Path, bytes_: bytes) -> None:
    """Write the file; for tests that may not do so themselves."""
    file.write_bytes(bytes_)


@pytest.mark.parametrize("bytes_", [b"no JSON", b'{"notifications":{"1":{}}}'])
async def test_damaged_file_stops_the_process(file: Path, bytes_: bytes) -> None:
    """A damaged file stops the start with one line and exit code 1."""
    put(file, bytes_)
    arguments = [sys.executable, "-m", "opennoodl_notification"]
    process = await asyncio.create_subprocess_exec(
        *arguments, env={"DB_FILE": str(file)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.count(b"\n") == 1
    assert b"damaged" in errors
    assert content(file) == bytes_


async def test_deeply_nested_data_does_not_stop_a_restart(start: Start, file: Path) -> None:
    """However deep data is nested: it is refused, or it is stored such that the server starts again."""
    process = await start()
    client = await Client.connect(process.port)
    await client.authenticate("s")
    depths = [*range(0, 900, 100), *range(900, 1010), 2000, 10_000, 30_000]
    for depth in depths:
        await client.text('{"type":"invite","targetUserId":"u","data":' + "[" * depth + "0" + "]" * depth + "}")
    answers = [await client.get() for _ in depths]
    assert {answer["type"] for answer in answers} == {"notification-sent", "error"}
    await process.kill()
    client = await Client.connect((await start()).port)
    await client.authenticate("s")
    await client.notify("u")
    await client.ws.close()


async def test_full_disk_refuses_writes_and_recovers(start: Start, file: Path) -> None:
    """A full disk refuses what it does not take; reads go on, and with some room all is well, also after a kill."""
    process = await start()
    client = await Client.connect(process.port)
    await client.authenticate("s")
    sent: list[str] = []
    before = resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    while True:
        answer = await client.ask("invite", targetUserId="t", data="x" * 1000)
        if answer["type"] == "error":
            break
        sent.append(answer["notificationId"])
    assert answer["code"] == "storage-unavailable"
    assert (await health(process.port))[0] == 503
    reader = await Client.connect(process.port)
    assert ids(await reader.authenticate("t")) == sent[::-1] != []
    resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, before)
    sent.append(await client.notify("t"))
    assert (await health(process.port))[0] == 200
    await process.kill()
    assert set(stored(file)) == set(sent)
