"""A task in a process of its own, which ends with it: for work that is done now and then."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress

from .messages import encode

SECONDS = 60.0
"""Seconds that a task may take."""


class TaskError(Exception):
    """A task failed; the text is one line that says why."""


async def run_task(module: str, task: str, parts: Sequence[bytes]) -> bytes:
    """Run a task of one of the modules of this package, and return its result.

    Args:
        module: its name.
        task: what it is to do.
        parts: what it is given.

    Raises:
        TaskError: it failed, or took too much time or memory.
    """
    command = sys.executable, "-m", f"{__package__}.{module}", task
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(SECONDS):
            await _give(process.stdin, parts)
            result, errors = await process.communicate()
    except TimeoutError:
        raise TaskError(f"it takes longer than {SECONDS:.0f} seconds") from None
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
    """Write a message, a part at a time; a process that has ended needs no more of it."""
    assert stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        for chunk in encode([[part] for part in parts]):
            stdin.write(chunk)
            await stdin.drain()
