"""What a command prints goes to whoever reads it, and to nobody else's annoyance."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .harness import PACKAGE

COMMAND = f"""
from {PACKAGE}.edge.output import output
with output():
    for number in range(LINES):
        print(number)
"""


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the end", "before the end"])
def test_nobody_reads(lines: int) -> None:
    """A command whose reader has gone ends in peace."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.replace("LINES", str(lines))],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_somebody_reads() -> None:
    """Whoever reads to the end has it all."""
    done = subprocess.run([sys.executable, "-c", COMMAND.replace("LINES", "3")], capture_output=True, check=True)
    assert done.stdout == b"0\n1\n2\n"
