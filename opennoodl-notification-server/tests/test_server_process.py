"""The server as a process: what it promised is there after whatever ended it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from .harness import TIMEOUT, Client, content, ids, stored

ROUNDS = 5
SENDERS = 4

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
    """What the server has said."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.shown: set[str] = set()
        self.read: set[str] = set()
        self.told = asyncio.Event()

    async def note(self, client: Client) -> None:
        """Take note of everything that a client is told, until the connection ends."""
        try:
            async for text in client.ws:
                message = json.loads(text)
                if message["type"] == "notification-sent":
                    self.sent.add(message["notificationId"])
                elif message["type"] == "notification":
                    self.shown.add(message["notification"]["id"])
                elif message["type"] == "notification-updated":
                    self.read.add(message["notification"]["id"])
                self.told.set()
        except ConnectionClosed:
            pass


async def sends(client: Client) -> None:
    """Send without pause, until the connection ends."""
    try:
        while True:
            await client.send("invite", targetUserId="receiver", data={"text": "x" * 50})
            await asyncio.sleep(0)  # the socket takes more than one turn of the loop should give it
    except ConnectionClosed:
        pass


async def reads(client: Client, promises: Promises) -> None:
    """Mark one after the other as read, until the connection ends."""
    try:
        while True:
            promises.told.clear()
            await promises.told.wait()
            for id_ in sorted(promises.shown - promises.read)[:1]:
                await client.send("mark-read", notificationId=id_)
    except ConnectionClosed:
        pass


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
        sent, read = len(promises.sent), len(promises.read)
        tasks = [asyncio.create_task(promises.note(client)) for client in (receiver, *senders)]
        tasks += [asyncio.create_task(sends(client)) for client in senders]
        tasks.append(asyncio.create_task(reads(receiver, promises)))
        async with asyncio.timeout(TIMEOUT):
            while len(promises.sent) < sent + 20 or len(promises.read) == read:
                promises.told.clear()
                await promises.told.wait()
        await asyncio.sleep(dice.uniform(0, 0.05))  # no wait for anything: the moment is to be any
        process.kill()
        async with asyncio.timeout(TIMEOUT):
            assert await process.wait() == -signal.SIGKILL
            tasks.pop().cancel()
            await asyncio.gather(*tasks)
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
    await client.ws.close()
    assert len(found) == len(set(found)) == len(records)
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
