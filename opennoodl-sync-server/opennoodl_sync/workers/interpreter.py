"""Reads documents with pycrdt, in a process with limits on time and memory."""

from ..yjs.lib0 import finish
from ..yjs.state_vector import decode
from .task import run_task

PROCESS = "interpretation_process"


async def to_json(update: bytes) -> bytes:
    """Return the document of an update as JSON for people.

    Args:
        update: the whole document as one Yjs update.

    Raises:
        TaskError: pycrdt failed, or took too much time or memory.
    """
    return await run_task(PROCESS, "json", [update])


async def state(update: bytes) -> dict[int, int]:
    """Return the state vector of an update's document, as pycrdt integrates it: clocks by client id.

    Args:
        update: the whole document as one Yjs update.

    Raises:
        TaskError: pycrdt failed, or took too much time or memory.
    """
    return finish(decode(await run_task(PROCESS, "state", [update])))
