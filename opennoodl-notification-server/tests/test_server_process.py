"""The server as a process: what it promised is there after whatever ended it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from .harness import TIMEOUT, Client, content, ids, stored

ROUNDS = 5
SENDERS = 4
PIPELINED = 3

Start = Callable[[], Awaitable[tuple[asyncio.subprocess.Process, int]]]


def environment(file: Path) -> dict[str, str]:
    """Return the settings of the process."""
    limits = dict.fromkeys(("RATE_LIMIT", "SENDS_PER_HOUR", "MAX_PER_USER"), "0")
    return {**os.environ, **limits, "HOST": "127.0.0.1", "PORT": "0", "DB_FILE": str(file), "LOG_FORMAT": "json"}


@pytest.fixture
async def start(file: Path) -> AsyncIterator[Start]:
    """Start the server; return the process and its port."""
    processes: list[asyncio.subprocess.Process] = []

    async def start_() -> tuple[asyncio.subprocess.Process, int]:
        arguments = [sys.executable, "-m", "opennoodl_notification"]
        process = await asyncio.create_subprocess_exec(
            *arguments, env=environment(file), stdout=asyncio.subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            while line := await process.stdout.readline():
                entry = json.loads(line)
                if entry.get("event") == "listening":
                    return process, int(entry["port"])
        raise AssertionError(f"the server has not started, but ended with {await process.wait()}")

    yield start_
    for process in processes:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(TIMEOUT):
            await process.communicate()


class Promises:
    """What the server has said, over all its lives."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.shown: set[str] = set()
        self.read: set[str] = set()
        self.enough = asyncio.Event()

    async def send(self, client: Client) -> None:
        """Send, and take note of the answers, until the connection ends."""
        with suppress(ConnectionClosed):
            while True:
                for _ in range(PIPELINED):
                    await client.send("invite", targetUserId="receiver", data={"text": "x" * 50})
                for _ in range(PIPELINED):
                    self.sent.add((await client.expect("notification-sent"))["notificationId"])

    async def receive(self, client: Client) -> None:
        """Take note of what comes, and mark it as read, until the connection ends."""
        before = len(self.read)
        with suppress(ConnectionClosed):
            while True:
                message = await client.get()
                id_ = message["notification"]["id"]
                if message["type"] == "notification":
                    self.shown.add(id_)
                    await client.send("mark-read", notificationId=id_)
                else:
                    self.read.add(id_)
                if len(self.read) >= before + 10:
                    self.enough.set()


async def test_kill(start: Start, file: Path) -> None:
    """Everything that was answered or delivered is there after `kill -9`, whenever it comes."""
    promises = Promises()
    dice = random.SystemRandom()
    for _ in range(ROUNDS):
        process, port = await start()
        receiver, *senders = [await Client.connect(port) for _ in range(1 + SENDERS)]
        await receiver.authenticate("receiver")
        for number, sender in enumerate(senders):
            await sender.authenticate(f"sender {number}")
        promises.enough.clear()
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
            tasks.create_task(promises.receive(receiver))
            for sender in senders:
                tasks.create_task(promises.send(sender))
            await promises.enough.wait()
            await asyncio.sleep(dice.uniform(0, 0.02))  # no wait for anything: the moment is to be any
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        records = stored(file)
        assert promises.sent | promises.shown <= set(records)
        assert promises.read <= {id_ for id_, record in records.items() if record.read}
    process, port = await start()
    client = await Client.connect(port)
    page = await client.authenticate("receiver")
    found = ids(page)
    while page["hasMore"]:
        page = await client.inbox(limit=200, before=page["notifications"][-1]["createdAt"])
        found += ids(page)
        assert len(found) <= len(records), "a notification is on two pages"
    await client.ws.close()
    assert len(found) == len(records)
    assert set(found) == set(records)


async def test_terminate(start: Start, file: Path) -> None:
    """On SIGTERM, clients are told to connect again, everything is stored, and the process ends without error."""
    process, port = await start()
    client = await Client.connect(port)
    await client.authenticate("s")
    sent = {await client.notify("u") for _ in range(3)}
    process.terminate()
    assert await client.closed() == 1001
    async with asyncio.timeout(TIMEOUT):
        assert await process.wait() == 0
    assert set(stored(file)) == sent


def put(file: Path, bytes_: bytes) -> None:
    """Write the file; for tests that may not do so themselves."""
    file.write_bytes(bytes_)


@pytest.mark.parametrize("bytes_", [b"no JSON", b'{"notifications":{"1":{}}}'])
async def test_damaged_file(file: Path, bytes_: bytes) -> None:
    """A damaged file stops the start with one line and exit code 1."""
    put(file, bytes_)
    arguments = [sys.executable, "-m", "opennoodl_notification"]
    process = await asyncio.create_subprocess_exec(
        *arguments, env=environment(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.count(b"\n") == 1
    assert b"damaged" in errors
    assert content(file) == bytes_


async def test_deep_data(start: Start, file: Path) -> None:
    """However deep data is nested: it is refused, or it is stored such that the server starts again."""
    process, port = await start()
    client = await Client.connect(port)
    await client.authenticate("s")
    depths = [*range(0, 900, 100), *range(900, 1010), 2000, 10_000, 30_000]
    for depth in depths:
        await client.text('{"type":"invite","targetUserId":"u","data":' + "[" * depth + "0" + "]" * depth + "}")
    answers = [await client.get() for _ in depths]
    assert {answer["type"] for answer in answers} == {"notification-sent", "error"}
    process.kill()
    await process.wait()
    _, port = await start()
    client = await Client.connect(port)
    await client.authenticate("s")
    await client.notify("u")
    await client.ws.close()
