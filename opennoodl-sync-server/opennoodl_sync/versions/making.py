"""Makes one version of a document."""

from collections.abc import Sequence
from time import time
from typing import NamedTuple

from ..storage.interface import History, PersistentStore, Version
from ..workers.task import run_task
from . import times

PROCESS = "version_process"
LATEST = 2**32 - 1
"""More than the number of any update."""


class TooLargeError(Exception):
    """A document, or a version of it, takes more bytes than it may; the text says how many these are."""


class Limits(NamedTuple):
    """Bytes that a document may have of which a version is made, and bytes that the version may take; 0 for any."""

    document: int = 0
    version: int = 0


async def make_version(
    store: PersistentStore, name: str, history: History, limits: Limits, last: int = LATEST
) -> tuple[Version, bytes]:
    """Return a version of a document as it is stored, and its content; it is not kept yet.

    Args:
        store: where the document is.
        name: of the document.
        history: its versions.
        limits: of its size.
        last: the number of the update up to which it is made.

    Raises:
        TooLargeError: it or the document takes more bytes than it may.
        TaskError: it could not be made.
        StoreError: the document could not be read.
    """
    updates, last = await store.read_until(name, last)
    size = sum(map(len, updates))
    if 0 < limits.document < size:
        raise TooLargeError(f"its updates take {size} bytes; allowed are {limits.document}")
    content = await run_task(PROCESS, "make", updates)
    if 0 < limits.version < len(content):
        raise TooLargeError(f"a version of it takes {len(content)} bytes; allowed are {limits.version}")
    newest = history.versions[-1].time if history.versions else 0
    return Version(max(int(time()), newest + 1), len(content), last), content


async def restoring_update(content: bytes, present: bytes) -> bytes:
    """Return the update that restores a version.

    Args:
        content: of the version.
        present: the content of a version that the document is now. What comes later stays.

    Raises:
        TaskError: it cannot be restored exactly, or takes too long.
    """
    return await run_task(PROCESS, "restore", [content, present])


def found(versions: Sequence[Version], when: int) -> Version:
    """Return the version that shows a document as it was at a time: the newest one that is not later.

    Raises:
        LookupError: there is none; the text says so.
    """
    earlier = [version for version in versions if version.time <= when]
    if earlier:
        return earlier[-1]
    oldest = f"the oldest one is of {times.shown(versions[0].time)}" if versions else "there is none"
    raise LookupError(f"no version is as old as {times.shown(when)}; {oldest}")
