"""The journal: changes since the file was last written, one line each, on disk before anybody is told.

A line is the CRC-32 of its content in eight hexadecimal digits, a space, and the changes as JSON. A line that is not
whole is one whose commit was never confirmed, so it may only be the last.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from .store import Changes

_decode = msgspec.json.Decoder(Changes).decode


class JournalError(ValueError):
    """A journal that is damaged."""


def line(changes: Changes) -> bytes:
    """Return the line for `changes`."""
    content = msgspec.json.encode(changes)
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


class Journal:
    """A new journal.

    Args:
        path: where it is made, in place of what is there.

    Attributes:
        size: bytes of confirmed lines.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def append(self, line: bytes) -> None:
        """Bring a line to disk.

        Raises:
            OSError: it is not there; this journal must not be used any more.
        """
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
        except OSError:
            # A line that is there all the same would come back after a restart though its sender was refused.
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(line)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
