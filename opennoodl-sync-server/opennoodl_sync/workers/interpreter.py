"""What a document means, as pycrdt sees it, which is asked in a process with limits on time and memory."""

import subprocess
import sys

from ..yjs.lib0 import finish
from ..yjs.state_vector import decode

COMMAND = [sys.executable, "-m", "opennoodl_sync.workers.interpretation_process"]
"""Runs the process; the task comes behind it."""
SECONDS = 60.0
"""Seconds that pycrdt may take."""


class InterpretationError(Exception):
    """pycrdt could not read a document; the text is one line that says why."""


def to_json(update: bytes) -> bytes:
    """Return the document that an update makes as JSON for people to read.

    Raises:
        InterpretationError: pycrdt failed, or took too much time or memory.
    """
    return _ask("json", update)


def state(update: bytes) -> dict[int, int]:
    """Return for each client how much of it pycrdt has integrated of the document that an update makes.

    Raises:
        InterpretationError: pycrdt failed, or took too much time or memory.
    """
    return finish(decode(_ask("state", update)))


def _ask(task: str, update: bytes) -> bytes:
    try:
        ended = subprocess.run([*COMMAND, task], input=update, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InterpretationError(f"it takes longer than {SECONDS:.0f} seconds") from None
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        raise InterpretationError(said[-1] if said else f"its process was ended by signal {-ended.returncode}")
    return ended.stdout
