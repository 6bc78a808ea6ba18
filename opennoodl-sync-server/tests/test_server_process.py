"""The server as it is deployed: a process that is asked to end, or killed, in the middle of its work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from .client import Client, Process, join


async def write(client: Client) -> None:
    """Write words, two at once, each time that there is news, until the connection ends."""
    try:
        for number in range(1_000_000):
            heard = len(client.messages)
            await client.type(f"{client.number}:{number}a ", f"{client.number}:{number}b ")
            await client.hears(heard)
    except (AssertionError, ConnectionClosed):
        return


async def busy_until(process: Process, first: int, words: int, end: str) -> set[str]:
    """Let three clients write until a fourth one has seen more `words`, end the server, and return what it saw."""
    clients = [await join(process.port, "room", first + number) for number in range(4)]
    writers = [asyncio.create_task(write(client)) for client in clients[1:]]
    words += len(clients[0].text.split())
    await clients[0].until(lambda: len(clients[0].text.split()) >= words)
    await getattr(process, end)()
    await asyncio.gather(*writers, *(client.ended() for client in clients))
    return set(clients[0].text.split())


async def test_shown_updates_survive_a_kill(tmp_path: Path) -> None:
    """A server that is killed while it is busy has everything on disk that any client was shown."""
    seen: set[str] = set()
    for round_ in range(3):
        process = await Process.start(tmp_path)
        reader = await join(process.port, "room", 5000 + round_)
        assert seen <= set(reader.text.split())
        await reader.close()
        seen |= await busy_until(process, 10 * round_ + 1, 60, "kill")
    process = await Process.start(tmp_path)
    reader = await join(process.port, "room", 6000)
    assert seen <= set(reader.text.split())
    assert len(seen) >= 180
    await reader.close()
    assert await process.terminate() == 0


async def test_a_busy_server_ends_in_order(tmp_path: Path) -> None:
    """SIGTERM closes every client with 1001, ends with exit code 0 within seconds, and loses nothing."""
    process = await Process.start(tmp_path)
    clients = [await join(process.port, "room", number) for number in range(1, 4)]
    writers = [asyncio.create_task(write(client)) for client in clients]
    await clients[0].until(lambda: len(clients[0].text.split()) >= 100)
    assert await process.terminate() == 0
    await asyncio.gather(*writers)
    assert [await client.ended() for client in clients] == [1001] * 3
    process = await Process.start(tmp_path)
    reader = await join(process.port, "room", 4)
    words = set(reader.text.split())
    for client in clients:
        others = {word for word in client.text.split() if not word.startswith(f"{client.number}:")}
        assert others
        assert others <= words
    await reader.close()
    await process.kill()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        pytest.param({"PORT": "many"}, b"PORT is 'many'; accepted is a whole number from 0 to 65535", id="PORT"),
        pytest.param(
            {"ENABLE_PERSISTENCE": "maybe"},
            b"ENABLE_PERSISTENCE is 'maybe'; accepted is true or false",
            id="ENABLE_PERSISTENCE",
        ),
        pytest.param({"PERSIST_DIR": __file__}, b"PERSIST_DIR", id="a file for a directory"),
    ],
)
async def test_an_unusable_setting_stops_the_start(
    tmp_path: Path, environment: dict[str, str], complaint: bytes
) -> None:
    """A setting that cannot be used stops the start with one line that names it."""
    process = await Process.spawn(tmp_path, **environment)
    output, _ = await process.child.communicate()
    assert process.child.returncode == 1
    assert complaint in output
    assert len(output.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the umask of another process")
async def test_files_written_later_are_private(tmp_path: Path) -> None:
    """LevelDB makes files at any time: nobody else can read them, whatever the directory and the umask are."""
    process = await Process.start(tmp_path)
    status = Path(f"/proc/{process.child.pid}/status").read_text()  # noqa: ASYNC240  # a file in memory
    assert "Umask:\t0077" in status.splitlines()
    assert await process.terminate() == 0
