"""What a document means, as pycrdt sees it, which is asked in a process with limits on time and memory."""

from ..yjs.lib0 import finish
from ..yjs.state_vector import decode
from .task import run_task

PROCESS = "interpretation_process"


async def to_json(update: bytes) -> bytes:
    """Return the document that an update makes as JSON for people to read.

    Raises:
        TaskError: pycrdt failed, or took too much time or memory.
    """
    return await run_task(PROCESS, "json", [update])


async def state(update: bytes) -> dict[int, int]:
    """Return for each client how much of it pycrdt has integrated of the document that an update makes.

    Raises:
        TaskError: pycrdt failed, or took too much time or memory.
    """
    return finish(decode(await run_task(PROCESS, "state", [update])))
