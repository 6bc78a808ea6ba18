"""The server as it is deployed and what becomes of its data: killed at any moment, or on a disk that fails."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from .client import Process, get
from .wire import update_message
from .writer import PATIENCE, Writer, converged, lacks

ROOMS = ("letters", "numbers")
LIFETIME = 50
"""Kills after which others come with other documents: those that are there grow, and take longer each time."""
FAILURES = 20
ABNORMAL, CANNOT_KEEP = 1006, 1011

limited = pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are set on Linux only")


class Crowd:
    """Clients in two rooms, every other one with acknowledgements, and what they know to be stored.

    Attributes:
        writers: the clients.
        shown, promised: how many updates they were shown, and how many of theirs acknowledged.
    """

    def __init__(self, dice: random.Random, size: int = 5, generation: int = 0) -> None:
        self._dice = dice
        self._rooms = [f"{room}-{generation}" for room in ROOMS]
        self.writers = [self._writer(number, self._rooms[number % 2], ack=number % 4 < 2) for number in range(size)]
        self._floor: dict[str, list[bytes]] = {room: [] for room in self._rooms}
        self._tasks: dict[Writer, asyncio.Task[None]] = {}
        self._fresh = 1000
        self.shown = self.promised = 0

    def _writer(self, number: int, room: str, *, ack: bool = False) -> Writer:
        return Writer(room, number + 1, random.Random(self._dice.random()), ack=ack)  # noqa: S311

    async def connect(self, port: int) -> None:
        """Let everybody come back with its document, and wait until all of a room agree."""
        await asyncio.gather(*(writer.connect(port) for writer in self.writers))
        await converged(self.writers)

    async def come_back(self, port: int) -> None:
        """Do the same after a disk has recovered: LevelDB may say at the next write only that it had failed."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.connect(port)
                except AssertionError:
                    if all(writer.code != CANNOT_KEEP for writer in self.writers):
                        raise
                else:
                    return

    async def check(self, port: int) -> bool:
        """Compare what a new client is sent with what the others were shown and promised, now or ever.

        Return whether nothing waits for what others have not sent yet; else some of it is compared the next time.
        """
        complete = True
        for room in self._rooms:
            self._fresh += 1
            fresh = self._writer(self._fresh, room)
            await fresh.connect(port)
            await fresh.until(lambda fresh=fresh: fresh.synced)
            await fresh.vanish()
            waits = fresh.waits
            complete = complete and not waits
            assert waits or not lacks(fresh.doc, self._floor[room]), f"{room} had more before"
            for writer in self.writers:
                if writer.room == room:
                    self.shown += len(writer.shown)
                    self.promised += len(writer.promised)
                    assert not writer.lost(fresh)
                    if not waits:
                        writer.forget()
            if not waits:
                self._floor[room] = [fresh.doc.get_update()]
        return complete

    def write(self, port: int) -> list[asyncio.Task[None]]:
        """Let everybody who is not editing edit until the server ends its connection."""
        for writer in self.writers:
            if writer not in self._tasks:
                self._tasks[writer] = asyncio.create_task(writer.write_on(port))
        return list(self._tasks.values())

    async def one_is_shown_more(self) -> None:
        """Wait until a client was shown what another one edits."""
        before = {writer: len(writer.shown) for writer in self.writers}
        async with asyncio.timeout(PATIENCE):
            while all(len(writer.shown) == before[writer] for writer in self.writers):  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def until_one_is_closed(self, port: int) -> list[Writer]:
        """Let everybody edit until the server has ended a connection; return whose."""
        done, _ = await asyncio.wait(self.write(port), return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert done, "the server has ended no connection"
        closed = [writer for writer, task in self._tasks.items() if task.done()]
        for writer in closed:
            await self._tasks.pop(writer)
        return closed

    async def until_all_are_closed(self) -> None:
        """Wait until the server has ended the connection of everybody who edits."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks.values())
        self._tasks.clear()

    async def leave(self) -> None:
        """Let everybody go."""
        await asyncio.gather(*(writer.vanish() for writer in self.writers))


@asynccontextmanager
async def serving(path: Path, *, fsync: bool = False) -> AsyncIterator[Process]:
    """Run a server that takes as much as there is; in the end it is killed."""
    process = await Process.start(
        path, RATE_LIMIT="0", BYTE_RATE_LIMIT="0", FSYNC=str(fsync).lower(), PYTHONFAULTHANDLER="1"
    )
    try:
        yield process
    finally:
        print("exit code before the kill:", process.child.returncode)
        if process.child.returncode is None:
            process.child.kill()
        output, _ = await process.child.communicate()
        print(output.decode(errors="replace")[-5000:])


async def health(process: Process) -> tuple[int, dict[str, object]]:
    """Return status and body of ``/health``."""
    answer = await get(process.port, "/health")
    return answer.status, json.loads(answer.body)


async def healthy(process: Process) -> None:
    """Wait until ``/health`` says so."""
    async with asyncio.timeout(PATIENCE):
        while (await health(process))[0] != 200:
            pass


def limit(process: Process, size: int) -> None:
    """Let no file of a server grow beyond `size` bytes from now on."""
    resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def log_sizes(path: Path) -> list[int]:
    """Return the sizes of LevelDB's logs; a server that opens its database again may delete one just now."""
    sizes = []
    for file in path.glob("*.log"):
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes


def fill(process: Process, path: Path, room: int) -> None:
    """Let the files in the data directory grow by no more than `room` bytes."""
    limit(process, max(log_sizes(path), default=0) + room)


async def write_until_full(process: Process, path: Path, crowd: Crowd, room: int) -> None:
    """Let everybody edit until files have grown by `room` bytes; from then on there is no room at all."""
    fill(process, path, room)
    await crowd.until_one_is_closed(process.port)
    limit(process, 0)  # what is opened again goes on in a new file, and that would have room
    await crowd.until_all_are_closed()
    assert [writer.end for writer in crowd.writers if writer.code != CANNOT_KEEP] == []
    status, body = await health(process)
    assert status == 503
    assert body["reason"]


async def test_shown_and_acknowledged_updates_survive_kills(
    tmp_path: Path, dice: random.Random, crash_rounds: int
) -> None:
    """Whenever the server is killed, what it has shown or acknowledged is there when it starts again."""
    crowds: list[Crowd] = []
    for number in range(crash_rounds):
        async with serving(tmp_path, fsync=number % 2 == 1) as process:
            if number % LIFETIME == 0:
                for crowd in crowds[-1:]:
                    await crowd.check(process.port)
                    crowd.writers.clear()  # what they were shown is in what was found now
                crowds.append(Crowd(dice, generation=len(crowds)))
            crowd = crowds[-1]
            await crowd.check(process.port)
            await crowd.connect(process.port)
            crowd.write(process.port)
            await crowd.one_is_shown_more()
            # The one wait that is for time: a kill is an event of nobody's making.
            await asyncio.sleep(dice.uniform(0.05, 0.5))
            await process.kill()
            await crowd.until_all_are_closed()
            assert {writer.code for writer in crowd.writers} == {ABNORMAL}
    async with serving(tmp_path) as process:
        for crowd in crowds:
            await crowd.check(process.port)
        await crowd.connect(process.port)
        assert await crowd.check(process.port)
        await crowd.leave()
    shown, promised = (sum(getattr(crowd, name) for crowd in crowds) for name in ("shown", "promised"))
    print(shown, "updates were shown and", promised, "acknowledged before a kill")


async def test_everything_is_acknowledged_in_the_end(tmp_path: Path, dice: random.Random) -> None:
    """A client with `ack=true` gets an acknowledgement for all its updates, which survives an immediate kill."""
    ann = Writer("letters", 1, dice, ack=True)
    async with serving(tmp_path) as process:
        await ann.connect(process.port)
        for _ in range(100):
            await ann.send(update_message(ann.edit()))
        await ann.until(lambda: ann.acknowledged == len(ann.sent) >= 100)
        await process.kill()
        await ann.ended()
    async with serving(tmp_path) as process:
        bob = Writer("letters", 2, dice)
        await bob.connect(process.port)
        await bob.until(lambda: bob.synced)
        assert not lacks(bob.doc, ann.updates)
        await bob.vanish()


@limited
@pytest.mark.parametrize("room", [0, 1, 100, 5_000, 32_768, 100_000])
async def test_unstored_updates_are_neither_shown_nor_acknowledged(
    tmp_path: Path, dice: random.Random, room: int
) -> None:
    """When the disk is full everybody is closed and /health says so; after a kill nothing that was shown is missing."""
    crowd = Crowd(dice)
    async with serving(tmp_path) as process:
        await crowd.connect(process.port)
        await write_until_full(process, tmp_path, crowd, room)
        await process.kill()
    async with serving(tmp_path) as process:
        await crowd.check(process.port)
        await crowd.connect(process.port)
        await crowd.check(process.port)
        await crowd.leave()


@limited
async def test_a_disk_that_recovers_is_noticed_and_nothing_is_lost(tmp_path: Path, dice: random.Random) -> None:
    """When there is room again /health is 200 though nobody writes, and who comes back brings what was not stored."""
    crowd = Crowd(dice)
    async with serving(tmp_path) as process:
        await crowd.connect(process.port)
        await write_until_full(process, tmp_path, crowd, 10_000)
        limit(process, resource.RLIM_INFINITY)
        await healthy(process)
        await crowd.check(process.port)
        await crowd.come_back(process.port)
        await process.kill()
        await asyncio.gather(*(writer.ended() for writer in crowd.writers))
    async with serving(tmp_path) as process:
        await crowd.check(process.port)
        await crowd.connect(process.port)
        await crowd.leave()


@limited
async def test_clients_that_come_back_while_the_disk_fails_lose_nothing(tmp_path: Path, dice: random.Random) -> None:
    """Clients that reconnect again and again while the disk fails find a running server; in the end all is stored."""
    crowd = Crowd(dice)
    async with serving(tmp_path) as process:
        await crowd.connect(process.port)
        fill(process, tmp_path, dice.randrange(20_000))
        for _ in range(FAILURES):
            failed = await crowd.until_one_is_closed(process.port)
            assert {writer.code for writer in failed} == {CANNOT_KEEP}
            fill(process, tmp_path, dice.choice([0, dice.randrange(20_000)]))
            await asyncio.gather(*(writer.connect(process.port) for writer in failed))
        limit(process, 0)
        await crowd.until_all_are_closed()
        limit(process, resource.RLIM_INFINITY)
        await healthy(process)
        await crowd.check(process.port)
        await crowd.come_back(process.port)
        await process.kill()
        await asyncio.gather(*(writer.ended() for writer in crowd.writers))
    async with serving(tmp_path) as process:
        await crowd.check(process.port)
        await crowd.connect(process.port)
        await crowd.leave()
