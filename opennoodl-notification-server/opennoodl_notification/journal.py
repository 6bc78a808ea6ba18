"""The journal: changes since the file was last written, one line each, on disk before anybody is told.

A line is the CRC-32 of its content in eight hexadecimal digits, a space, and the changes as JSON. A line that is not
whole is one whose commit was never confirmed, so it may only be the last.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import structlog

from .store import Changes

PROBE = 1 << 16
"""Bytes that a disk has to take before it is said to work again."""

_decode = msgspec.json.Decoder(Changes).decode

log = structlog.get_logger()


class JournalError(ValueError):
    """A journal that is damaged."""


def line(changes: Changes, size: int = 0) -> bytes:
    """Return the line for `changes`, with at least `size` bytes of content."""
    content = msgspec.json.encode(changes).ljust(size)
    return b"%08x %s\n" % (crc32(content), content)


def read(path: Path) -> Iterator[Changes]:
    """Yield the changes of a journal that were confirmed.

    Raises:
        JournalError: a line before the last one is damaged.
        OSError: the file cannot be read.
    """
    damaged = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if damaged:
                raise JournalError(f"line {damaged} of {path.name} is damaged")
            content = text[9:-1]
            if not text.endswith(b"\n") or text[:9] != b"%08x " % crc32(content):
                damaged = number
                continue
            try:
                yield _decode(content)
            except msgspec.DecodeError as error:
                raise JournalError(f"line {number} of {path.name} is none of this server's: {error}") from None
    if damaged:
        log.warning("a journal ends in a line that is not whole; it was left out", journal=path.name, line=damaged)


class Journal:
    """A new journal.

    Args:
        path: where it is made, in place of what is there.

    Attributes:
        size: bytes of confirmed lines.
        sound: whether it holds these and nothing else, and may be used.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.sound = True
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def append(self, line: bytes) -> None:
        """Bring a line to disk.

        Raises:
            OSError: it is not there. A full disk leaves the journal as it was; after any other failure it is not sound.
        """
        self.sound = False
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self.size)
            self.sound = True
            raise
        try:
            os.fdatasync(self._file)
        except OSError:
            # A line that is there all the same would come back after a restart though its sender was refused.
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(line)
        self.sound = True

    def probe(self) -> None:
        """Return if there is room for some more lines, by means of one that says nothing.

        Raises:
            OSError: there is none.
        """
        self.append(line(Changes(), PROBE))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
