"""What pycrdt makes of a document, in a process with limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from opennoodl_sync.workers import interpreter
from opennoodl_sync.workers.interpreter import InterpretationError, state, to_json

from ..editor import UNSOUND
from ..raw import item, section, string, text, update

pytestmark = pytest.mark.slow

SOUND = update(section(1, 0, item(text("hello"))))
WITHIN = "from opennoodl_sync.workers import interpretation_process as process; process.MEMORY = {}; process.main()"


def test_a_document_is_read_as_json() -> None:
    """A document is JSON."""
    assert json.loads(to_json(update(section(1, 0, item(text("hello")))))) == {"t": "hello"}


def test_the_state_of_each_client_is_read() -> None:
    """What pycrdt has of each client."""
    assert state(update(section(1, 0, item(text("hello"))), section(2**40, 0, item(text("a"))))) == {1: 5, 2**40: 1}


def test_a_subdocument_is_named() -> None:
    """Its content is elsewhere; the rest of the document is shown."""
    subdocument = item(b"\x09" + string("guid") + b"\x76\x00", parent="list")
    assert json.loads(to_json(update(section(1, 0, subdocument)))) == {"list": [{"subdocument": "guid"}]}


@pytest.mark.parametrize("kind", ["a text that is not UTF-8", "a value that is not JSON", "an end that is missing"])
def test_a_failure_of_pycrdt_is_one_line(kind: str) -> None:
    """The process ends, and says why."""
    with pytest.raises(InterpretationError, match=r"^ValueError: Cannot decode update: [^\n]+$"):
        to_json(UNSOUND[kind])


def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is said."""
    monkeypatch.setattr(interpreter, "SECONDS", 0.01)
    with pytest.raises(InterpretationError, match="it takes longer than 0 seconds"):
        to_json(SOUND)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
def test_a_process_that_takes_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said; a process that has the memory does it."""
    large = update(section(1, 0, item(text(b"a" * 20_000_000))))
    for size, enough in ((2**31, True), (30 * 2**20, False)):
        monkeypatch.setattr(interpreter, "COMMAND", [sys.executable, "-c", WITHIN.format(size)])
        if enough:
            assert state(large) == {1: 20_000_000}
        else:
            with pytest.raises(InterpretationError, match="it takes more than 30 MiB of memory"):
                state(large)


def test_a_process_that_is_killed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operating system does when memory runs out."""
    monkeypatch.setattr(interpreter, "COMMAND", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(InterpretationError, match="its process was ended by signal 9"):
        to_json(SOUND)


def test_the_server_does_not_load_pycrdt() -> None:
    """Only the process does: it takes memory, and the server has no use for it."""
    program = "import sys, opennoodl_sync.__main__; print('pycrdt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"
