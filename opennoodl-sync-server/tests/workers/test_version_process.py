"""Versions are made and restored in a process with limits."""

from __future__ import annotations

import subprocess
import sys
from typing import cast

import pytest
from opennoodl_sync.storage.interface import History, PersistentStore
from opennoodl_sync.versions import making
from opennoodl_sync.versions.content import pack, unpack
from opennoodl_sync.versions.making import Limits
from opennoodl_sync.workers import task
from opennoodl_sync.workers.task import TaskError, run_task
from opennoodl_sync.workers.version_process import make, restore
from opennoodl_sync.yjs.document import DamagedError, Document
from opennoodl_sync.yjs.lib0 import finish

from ..editor import Editor, merged

pytestmark = pytest.mark.slow

PROCESS = "version_process"


async def test_a_version_is_made_and_restored() -> None:
    """A version is all of the document, and restoring it is an update."""
    editor = Editor(1)
    updates = [editor.write("hello"), editor.write(" world")]
    content = await run_task(PROCESS, "make", updates)
    assert Editor(2, unpack(content)).text == "hello world"
    updates.append(editor.delete(0, 6))
    restoring = await run_task(PROCESS, "restore", [content, make(updates)])
    assert Editor(3, *updates, restoring).text == "hello world"


async def test_a_failure_is_one_line() -> None:
    """The reason is one line."""
    with pytest.raises(TaskError, match=r"^record 0 is not a Yjs update: the message ends within a number$"):
        await run_task(PROCESS, "make", [b"\x01"])
    with pytest.raises(TaskError, match=r"^the content of a version is damaged: "):
        await run_task(PROCESS, "restore", [b"nonsense", make([b"\0\0"])])
    with pytest.raises(TaskError, match="the document lacks changes"):
        await run_task(PROCESS, "restore", [make([Editor(1).write("x")]), make([b"\0\0"])])


async def test_time_of_a_task_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that takes too long is ended."""
    monkeypatch.setattr(task, "SECONDS", 0.01)
    with pytest.raises(TaskError, match=r"^it takes longer than 0 seconds$"):
        await run_task(PROCESS, "make", [b"\0\0"])


async def test_a_large_document_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which its version must be made depends on its size."""
    update = Editor(1).write("x" * 200)

    class Store:
        async def read_until(self, _: str, last: int) -> tuple[list[bytes], int]:
            return [update], last

    monkeypatch.setattr(task, "SECONDS", 0.0)
    monkeypatch.setattr(making, "RATE", 1)
    version, content = await making.make_version(cast("PersistentStore", Store()), "room", History([], 7), Limits(), 7)
    assert (version.last, unpack(content)) == (7, update)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
def test_memory_of_a_task_is_limited() -> None:
    """A task that takes too much memory ends, and says so."""
    code = f"from opennoodl_sync.workers import {PROCESS} as process; process.MEMORY = 100 * 2**20; process.main()"
    message = (1).to_bytes(8, "little") + (2**28).to_bytes(8, "little") * 2 + bytes(2**28)
    ended = subprocess.run([sys.executable, "-c", code, "make"], input=message, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"it takes more than 100 MiB of memory\n")


def test_it_imports_no_library() -> None:
    """The process starts fast: it imports the engine, and neither pycrdt nor the event loop."""
    code = (
        f"import sys; from opennoodl_sync.workers import {PROCESS}; print({{'pycrdt', 'asyncio'}} & {{*sys.modules}})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_pending_updates_are_in_a_version() -> None:
    """A version has what lacks its predecessors, so nothing is lost when they come."""
    editor = Editor(1)
    first, second, third = editor.write("a"), editor.write("b"), editor.write("c")
    version = unpack(make([first, third]))
    document = Document()
    finish(document.load([version]))
    assert document.pending() is not None
    assert Editor(2, version, second).text == "abc"


def test_the_client_is_a_new_one() -> None:
    """Two restorations of one version are by two clients, so both can be in a document."""
    editor = Editor(1)
    content = make([editor.write("x")])
    updates = [*editor.updates, editor.delete(0, 1)]
    one, two = restore(content, make(updates)), restore(content, make(updates))
    assert str(merged([*updates, one, two]).get("t", type=type(editor._text))) == "xx"


@pytest.mark.parametrize("typist", [2**21, 2**32 - 1])
def test_text_typed_offline_stays_behind_the_restored_piece(typist: int) -> None:
    """A client that was offline when all was deleted, and typed at the end, finds its text there."""
    editor, offline = Editor(2**22), Editor(typist)
    content = make([editor.write("hello world")])
    offline.take(*editor.updates)
    updates = [*editor.updates, editor.delete(0, 11)]
    restoring = restore(content, make(updates))
    typed = offline.write(" again")
    for order in ((restoring, typed), (typed, restoring)):
        assert Editor(3, *updates, *order).text == "hello world again"


def test_damaged_content_is_refused() -> None:
    """Damaged content is refused."""
    assert unpack(pack(b"update")) == b"update"
    with pytest.raises(DamagedError, match="the content of a version is damaged"):
        unpack(b"x")
