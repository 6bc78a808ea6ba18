"""The interpreter: pycrdt reads a document, in a process with limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from opennoodl_sync.workers import task
from opennoodl_sync.workers.interpreter import state, to_json
from opennoodl_sync.workers.messages import encode
from opennoodl_sync.workers.task import TaskError

from ..editor import UNSOUND
from ..raw import item, section, string, text, update

pytestmark = pytest.mark.slow

SOUND = update(section(1, 0, item(text("hello"))))
WITHIN = "from opennoodl_sync.workers import interpretation_process as process; process.MEMORY = {}; process.main()"


async def test_a_document_is_read_as_json() -> None:
    """A document is JSON."""
    assert json.loads(await to_json(update(section(1, 0, item(text("hello")))))) == {"t": "hello"}


async def test_the_state_of_each_client_is_read() -> None:
    """The state vector names pycrdt's clock of each client."""
    assert await state(update(section(1, 0, item(text("hello"))), section(2**40, 0, item(text("a"))))) == {
        1: 5,
        2**40: 1,
    }


async def test_a_subdocument_is_named() -> None:
    """Its content is elsewhere; the rest of the document is shown."""
    subdocument = item(b"\x09" + string("guid") + b"\x76\x00", parent="list")
    assert json.loads(await to_json(update(section(1, 0, subdocument)))) == {"list": [{"subdocument": "guid"}]}


@pytest.mark.parametrize("kind", ["a text that is not UTF-8", "a value that is not JSON", "an end that is missing"])
async def test_a_failure_of_pycrdt_is_one_line(kind: str) -> None:
    """The process ends, and says why."""
    with pytest.raises(TaskError, match=r"^ValueError: Cannot decode update: [^\n]+$"):
        await to_json(UNSOUND[kind])


async def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is said."""
    monkeypatch.setattr(task, "SECONDS", 0.01)
    with pytest.raises(TaskError, match="it takes longer than 0 seconds"):
        await to_json(SOUND)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
@pytest.mark.parametrize(("size", "enough"), [(2**31, True), (30 * 2**20, False)])
def test_a_process_has_a_limit_of_memory(size: int, enough: bool) -> None:
    """A process that needs more memory says so; one that has it does its task."""
    large = b"".join(encode([[update(section(1, 0, item(text(b"a" * 20_000_000))))]]))
    command = [sys.executable, "-c", WITHIN.format(size), "state"]
    ended = subprocess.run(command, input=large, capture_output=True, check=False)
    assert (ended.returncode == 0) == enough
    assert enough or ended.stderr.strip() == b"it takes more than 30 MiB of memory"


def test_the_server_does_not_load_pycrdt() -> None:
    """Only the process does: it takes memory, and the server has no use for it."""
    program = "import sys, opennoodl_sync.__main__; print('pycrdt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"
