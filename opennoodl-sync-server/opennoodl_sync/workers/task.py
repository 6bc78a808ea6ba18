"""Runs a task in a process of its own, for rare work."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress

from .messages import encode

SECONDS = 60.0
"""Time limit of a task, in seconds, unless it is given more."""


class TaskError(Exception):
    """A task failed; the text is the reason, in one line."""


async def run_task(module: str, task: str, parts: Sequence[bytes], *, more_seconds: float = 0.0) -> bytes:
    """Run a task in a module of this package; return its result.

    Args:
        module: the name of the module.
        task: the name of the task.
        parts: the input of the task.
        more_seconds: time that the task has beyond the limit.

    Raises:
        TaskError: the task failed, or took too much time or memory.
    """
    command = sys.executable, "-m", f"{__package__}.{module}", task
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    limit = SECONDS + more_seconds
    try:
        async with asyncio.timeout(limit):
            await _give(process.stdin, parts)
            result, errors = await process.communicate()
    except TimeoutError:
        raise TaskError(f"it takes longer than {limit:.0f} seconds") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        raise TaskError(said[-1] if said else f"its process was ended by signal {-process.returncode}")
    return result


async def _give(stdin: asyncio.StreamWriter | None, parts: Sequence[bytes]) -> None:
    """Write a message, one part at a time; stop without an error if the process has ended."""
    assert stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        for chunk in encode([[part] for part in parts]):
            stdin.write(chunk)
            await stdin.drain()
