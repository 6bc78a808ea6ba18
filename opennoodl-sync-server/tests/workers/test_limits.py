"""Limits that a worker sets for itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(program: str) -> str:
    """Return what a program writes."""
    program = "from opennoodl_sync.workers.limits import *\n" + program
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
def test_more_memory_than_allowed_is_refused() -> None:
    """An allocation beyond the limit is a MemoryError; a later limit may be higher."""
    assert run("""
limit_memory(300 << 20)
try:
    bytearray(400 << 20)
except MemoryError:
    print("refused")
limit_memory(900 << 20)
bytearray(400 << 20)
print("allowed")
""").split() == ["refused", "allowed"]


@pytest.mark.skipif(not hasattr(os, "nice"), reason="there are no priorities")
def test_the_server_goes_first() -> None:
    """A worker has a lower priority."""
    assert int(run("import os; before = os.nice(0); lower_priority(); print(os.nice(0) - before)")) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_signals_for_the_server_are_ignored() -> None:
    """A worker lives on."""
    program = "import os, signal; ignore_signals(); [os.kill(os.getpid(), n) for n in (1, 2, 15)]; print('alive')"
    assert run(program) == "alive"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux chooses so")
def test_it_is_killed_before_the_server() -> None:
    """Where memory has run out, nothing is ended before a worker."""
    assert (
        run("""
be_killed_first()
print(Path("/proc/self/oom_score_adj").read_text())
""")
        == "1000"
    )
