"""Makes one version of a document."""

from collections.abc import Sequence
from time import time
from typing import NamedTuple

from ..storage.interface import History, PersistentStore, Version
from ..workers.task import run_task
from . import times

PROCESS = "version_process"
RATE = 100_000
"""Bytes of a document for which its version may take one second more; the process does about 1 MB a second of many
small structs where it is alone."""
LATEST = 2**32 - 1
"""A number above that of any update."""


class TooLargeError(Exception):
    """A document or its version exceeds its limit; the text has the number of bytes."""


class Limits(NamedTuple):
    """Limits in bytes of a document and of its version; 0 means no limit."""

    document: int = 0
    version: int = 0


async def make_version(
    store: PersistentStore, name: str, history: History, limits: Limits, last: int = LATEST
) -> tuple[Version, bytes]:
    """Return a new version of a stored document, and its content. The version is not stored yet.

    Args:
        store: stores the document.
        name: the name of the document.
        history: the versions of the document.
        limits: the limits of its size.
        last: the number of the last update to include.

    Raises:
        TooLargeError: the version or the document exceeds a limit.
        TaskError: the version could not be made.
        StoreError: the document could not be read.
    """
    updates, last = await store.read_until(name, last)
    size = sum(map(len, updates))
    if 0 < limits.document < size:
        raise TooLargeError(f"its updates take {size} bytes; allowed are {limits.document}")
    content = await run_task(PROCESS, "make", updates, more_seconds=size / RATE)
    if 0 < limits.version < len(content):
        raise TooLargeError(f"a version of it takes {len(content)} bytes; allowed are {limits.version}")
    newest = history.versions[-1].time if history.versions else 0
    return Version(max(int(time()), newest + 1), len(content), last), content


async def restoring_update(content: bytes, present: bytes) -> bytes:
    """Return the update that restores a version.

    Args:
        content: the content of the version.
        present: the content of a version of the present document. Later changes are not undone.

    Raises:
        TaskError: the version cannot be restored exactly, or it takes too long.
    """
    return await run_task(PROCESS, "restore", [content, present])


def found(versions: Sequence[Version], when: int) -> Version:
    """Return the newest version at or before the time `when`, in seconds since 1970.

    Raises:
        LookupError: there is none; the text says so.
    """
    earlier = [version for version in versions if version.time <= when]
    if earlier:
        return earlier[-1]
    oldest = f"the oldest one is of {times.shown(versions[0].time)}" if versions else "there is none"
    raise LookupError(f"no version is as old as {times.shown(when)}; {oldest}")
