"""`backup` beside a server under load and after a kill, and `restore`, run as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from .edge.harness import PROCESS_TIMEOUT
from .test_commands import run, write
from .test_crash import ABNORMAL, Crowd, serving
from .writer import PATIENCE, Writer, lacks

pytestmark = pytest.mark.slow

UPDATES = 20
"""Updates that each client has been shown before the next backup."""
PAUSE = 0.02
"""Seconds after which a client writes on: much is written during a backup, and documents stay small."""


async def command(directory: Path, *arguments: str) -> str:
    """Run a command on a data directory; return what it prints."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opennoodl_sync", *arguments),
        env={**os.environ, "PERSIST_DIR": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PROCESS_TIMEOUT):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.communicate()
        raise
    assert child.returncode == 0, output.decode()
    return output.decode()


def known(crowd: Crowd) -> dict[str, list[bytes]]:
    """Return all updates that the server has shown to clients or acknowledged, by room."""
    updates: dict[str, list[bytes]] = {}
    for writer in crowd.writers:
        updates.setdefault(writer.room, []).extend(writer.shown + writer.promised)
    return updates


async def test_backup_under_load(tmp_path: Path, dice: random.Random) -> None:
    """A backup has everything that the server had shown or acknowledged when the command began."""
    crowd, backups = Crowd(dice), {}
    for writer in crowd.writers:
        writer.pause = PAUSE
    async with serving(tmp_path / "data") as process:
        await crowd.connect(process.port)
        crowd.write(process.port)
        for number in range(3):
            for writer in crowd.writers:
                enough = len(writer.shown) + UPDATES
                async with asyncio.timeout(PATIENCE):
                    while len(writer.shown) < enough:  # noqa: ASYNC110  # it may lose its connection and come back
                        await asyncio.sleep(0.01)
            backups[tmp_path / f"backup {number}"] = known(crowd)
            await command(tmp_path / "data", "backup", str(tmp_path / f"backup {number}"))
        await process.kill()
        await crowd.until_all_are_closed()
        assert {writer.code for writer in crowd.writers} == {ABNORMAL}
    backups[tmp_path / "after the kill"] = known(crowd)
    await command(tmp_path / "data", "backup", str(tmp_path / "after the kill"))
    for backup, updates in backups.items():
        restored = tmp_path / f"{backup.name}, restored"
        await command(restored, "restore", str(backup))
        async with serving(restored) as process:
            for number, room in enumerate(updates):
                reader = Writer(room, 9000 + number, dice)
                await reader.connect(process.port)
                await reader.until(lambda reader=reader: reader.synced)
                assert not lacks(reader.doc, updates[room]), f"{backup.name} lacks something in {room}"
                await reader.vanish()


def test_backup_and_restore_report_the_same_documents(tmp_path: Path) -> None:
    """The commands say how many documents were copied, and both directories have the same ones."""
    write(tmp_path / "data", "a/b", b"\x00\x00")
    write(tmp_path / "data", "c", b"\x00\x00")
    ended = run(tmp_path / "data", "backup", str(tmp_path / "copy"))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.startswith(b"2 documents, ")
    assert run(tmp_path / "new", "restore", str(tmp_path / "copy")).stdout.startswith(b"2 documents, ")
    lists = {run(tmp_path / name, "list").stdout for name in ("data", "copy", "new")}
    assert len(lists) == 1


def test_restore_over_documents(tmp_path: Path) -> None:
    """`restore` does not write over documents."""
    write(tmp_path / "data", "room", b"\x00\x00")
    write(tmp_path / "copy", "room", b"\x00\x00")
    ended = run(tmp_path / "data", "restore", str(tmp_path / "copy"))
    assert ended.returncode == 1
    assert ended.stderr.decode() == f"opennoodl_sync: nothing was copied: {tmp_path / 'data'} is not empty\n"


def test_nothing_to_copy(tmp_path: Path) -> None:
    """Both commands name the directory that has no documents."""
    ended = run(tmp_path / "data", "backup", str(tmp_path / "copy"))
    assert ended.stderr.decode() == f"opennoodl_sync: PERSIST_DIR {tmp_path / 'data'} holds no documents\n"
    ended = run(tmp_path / "data", "restore", str(tmp_path / "copy"))
    assert ended.stderr.decode() == f"opennoodl_sync: {tmp_path / 'copy'} holds no documents\n"
