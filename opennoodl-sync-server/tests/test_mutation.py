"""The server as it is deployed, and thousands of messages that were changed at random."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from .client import Process, get
from .mutations import Eve, Journal, mutate, record

ROOMS, EVES, ROUNDS, SHARE = 4, 3, 5, 25
"""Rooms at once, senders in each, rounds until other rooms are taken, and messages for a room in a round."""
REFUSED = 1003
PATIENCE = 60.0


class Honesty:
    """Honest clients, in a process of their own: they stay in their rooms, and edit when they are asked to."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def ask(self, do: str, port: int, rooms: list[str]) -> dict[str, str]:
        """Let honest clients do something in each room; return what was wrong."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": do, "port": port, "rooms": rooms}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            answer = await self._child.stdout.readline()
            if not answer:
                code = await self._child.wait()
                return dict.fromkeys(rooms, f"the process of the honest clients ended with {code}")
        faults: dict[str, str] = json.loads(answer)
        return faults


@asynccontextmanager
async def honest() -> AsyncIterator[Honesty]:
    """Run a process of honest clients."""
    pipe = asyncio.subprocess.PIPE
    script = str(Path(__file__).with_name("honest.py"))
    child = await asyncio.create_subprocess_exec(sys.executable, script, stdin=pipe, stdout=pipe, limit=2**26)
    try:
        yield Honesty(child)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Process]:
    """Run a server; stop it, which has to be in order, when nothing failed. Its last words are for the report."""
    process = await Process.start(
        path,
        RATE_LIMIT="0",
        BYTE_RATE_LIMIT="0",
        HANDSHAKES_PER_SECOND="0",
        PYTHONFAULTHANDLER="1",
        RUST_BACKTRACE="0",
    )
    words: deque[bytes] = deque(maxlen=60)

    async def listen() -> None:
        assert process.child.stdout is not None
        async for line in process.child.stdout:
            words.append(line)

    listening = asyncio.create_task(listen())
    try:
        yield process
        process.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.child.wait() == 0
    finally:
        if process.child.returncode is None:
            process.child.kill()
        await listening
        await process.child.wait()
        print(b"".join(words).decode(errors="replace"))


async def dead(process: Process) -> str:
    """Return what is wrong with a server, if anything is."""
    try:
        answer = await get(process.port, "/health")
    except (OSError, IndexError, ValueError):
        async with asyncio.timeout(PATIENCE):
            return f"the server ended with {await process.child.wait()}"
    return "" if answer.status == 200 else f"/health says {answer.body!r}"


async def attack(eves: list[Eve], dice: random.Random, pool: list[bytes], count: int) -> None:
    """Send `count` messages, some in a row and some one by one."""
    while count > 0:
        row = min(count, dice.choice([1, 1, 1, 2, 4]))
        await dice.choice(eves).send([mutate(dice, pool) for _ in range(row)])
        count -= row


async def test_mutated_messages_hurt_nobody(tmp_path: Path, dice: random.Random, mutations: int) -> None:
    """The server runs on, honest clients stay connected, are served, and find everything again after a restart."""
    everything: list[str] = []
    journals: dict[str, Journal] = {}
    codes: set[int] = set()

    def report(faults: dict[str, str]) -> str:
        return "\n\n".join(f"{room}: {fault}\n{journals[room].explain()}" for room, fault in faults.items())

    async with honest() as honesty:
        async with serving(tmp_path / "data") as process:
            for generation in range(-(-mutations // (ROOMS * ROUNDS * SHARE))):
                rooms = [f"room-{generation}-{number}" for number in range(ROOMS)]
                pools = [record(dice) for _ in rooms]
                everything += rooms
                journals |= {room: Journal(tmp_path / f"{room}.hex") for room in rooms}
                eves = [[Eve(process.port, room, journals[room]) for _ in range(EVES)] for room in rooms]
                faults = await honesty.ask("join", process.port, rooms)
                # Half of what was recorded first, so that what is mutated meets what it was made for.
                await asyncio.gather(
                    *(eve[0].send(pool[: len(pool) // 2]) for eve, pool in zip(eves, pools, strict=True))
                )
                for _ in range(ROUNDS):
                    parts = zip(eves, pools, strict=True)
                    await asyncio.gather(*(attack(each, dice, pool, SHARE) for each, pool in parts))
                    codes |= {code for each in eves for eve in each for code in eve.codes}
                    end = await dead(process)
                    assert not end, report(dict.fromkeys(rooms, end))
                    faults |= await honesty.ask("edit", process.port, rooms)
                    faults |= await honesty.ask("open", process.port, everything)
                    assert not faults, report(faults)
                    assert codes <= {REFUSED}
                for each in eves:
                    await asyncio.gather(*(eve.leave() for eve in each))
                for room in rooms:
                    journals[room].close()
        assert codes == {REFUSED}
        async with serving(tmp_path / "data") as process:
            faults = await honesty.ask("compare", process.port, everything)
            assert not faults, report(faults)
