"""The journal: the changes since the file was last written, one line for each commit, synced before any answer.

A line is the CRC-32 of its content in eight hexadecimal digits, a space, and the changes as JSON. After a power cut,
sectors of a line may be missing; its commit was never confirmed. This is valid only for the last line of the last
journal. The line is cut off before another journal follows. Any other line that does not match its checksum is damaged.
"""

import os
from collections.abc import Iterator
from errno import EEXIST
from pathlib import Path
from zlib import crc32

import msgspec
import structlog
from msgspec import Struct, field

from ...inbox.store import Changes
from ...records import Payload
from .format import FORMAT, ForeignFileError, join, newer, separate

PROBE = 1 << 16
"""Free bytes that a disk needs to count as working again."""
SECTOR = 512
"""Bytes that a disk writes atomically. Unwritten sectors read as zeros at the end of a file."""

log = structlog.get_logger()


class Line(Changes, omit_defaults=True):
    """The changes of a line.

    Attributes:
        payloads: the payloads of the records in `added`, which are without data.
        format: the version of the format; lines of format 1 have no such field.
    """

    format: int = 1
    payloads: list[Payload] = field(default_factory=list)


class Head(Struct):
    """The fields of a line that show whether this release can read it."""

    format: int = 1


_decode = msgspec.json.Decoder(Line).decode
_decode_head = msgspec.json.Decoder(Head).decode


class JournalError(ValueError):
    """A journal is damaged."""


def line(changes: Changes, size: int = 0) -> bytes:
    """Return the line for `changes`, with at least `size` bytes of content.

    A line break in the senders' JSON, which can only be between tokens, becomes a space.
    """
    parts = {name: getattr(changes, name) for name in Changes.__struct_fields__}
    parts["added"], payloads = separate(changes.added)
    written = Line(**parts, format=FORMAT, payloads=payloads)
    content = msgspec.json.encode(written).replace(b"\n", b" ").ljust(size)
    return b"%08x %s\n" % (crc32(content), content)


def read(path: Path, *, last: bool = True, mend: bool = False) -> Iterator[Changes]:
    """Yield the confirmed changes of a journal.

    Args:
        path: the path of the journal.
        last: whether no other journal follows; only then an incomplete last line is valid.
        mend: whether to cut off such a line, so that another journal may follow.

    Raises:
        JournalError: another line is damaged.
        ForeignFileError: a newer release has written the journal.
        OSError: the file cannot be read, or cannot be truncated.
    """
    whole = 0  # bytes of complete lines
    first, parts, check = 1, list[bytes](), 0
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            check = crc32(text[:-1] if parts else text[9:-1], check)
            parts.append(text)
            if not text.endswith(b"\n") or parts[0][:9] != b"%08x " % check:
                # Older versions left line breaks in the senders' JSON: such a line ends where its checksum matches.
                check = crc32(b"\n", check)
                continue
            content = b"".join(parts)
            try:
                changes = _decode(content[9:-1])
                changes.added = list(join(changes.added, changes.payloads))
                format_ = changes.format
            except ValueError as error:
                format_ = _format_of(content[9:-1])
                if format_ <= FORMAT:
                    raise JournalError(f"line {first} of {path.name} was not written by this server: {error}") from None
            if format_ > FORMAT:
                raise ForeignFileError(f"continues in {path.name}, which {newer(format_)}")
            yield changes
            whole += len(content)
            first, parts, check = number + 1, [], 0
    if parts:
        if not last or len(parts) > 1 or not _is_torn(parts[0], whole):
            raise JournalError(f"line {first} of {path.name} is damaged")
        log.warning("the last journal ended in an incomplete line, which was removed", journal=path.name, line=first)
        if mend:
            _cut(path, whole)


class Journal:
    """A new journal.

    Args:
        path: the path to create it at; an existing file must be empty.

    Attributes:
        size: bytes of confirmed lines.
        sound: whether the file has exactly these lines and may be used.

    Raises:
        OSError: it cannot be created, or is not empty.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.sound = True
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size:
            os.close(self._file)
            raise FileExistsError(EEXIST, f"{path.name} is not empty")

    def append(self, changes: Changes, size: int = 0) -> None:
        """Write a line to disk.

        Args:
            changes: the changes of the line.
            size: the least number of bytes of its content.

        Raises:
            OSError: it failed. After a full disk the journal is unchanged; after any other failure it is not `sound`.
        """
        written = line(changes, size)
        self.sound = False
        try:
            left = memoryview(written)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self.size)
            self.sound = True
            raise
        try:
            os.fdatasync(self._file)
        except OSError:
            # The line may be on disk, and a restart would apply it although its sender got an error.
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(written)
        self.sound = True

    def probe(self) -> None:
        """Test whether there is space for some more lines, with an empty one.

        Raises:
            OSError: there is no space.
        """
        self.append(Changes(), PROBE)

    def mend(self) -> None:
        """Cut off everything but the confirmed lines, so that another journal may follow. OSError: it failed."""
        os.ftruncate(self._file, self.size)
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _format_of(content: bytes) -> int:
    """Return the format version of a line that this release cannot decode; 0 if it has none."""
    try:
        return _decode_head(content).format
    except ValueError:
        return 0


def _is_torn(text: bytes, start: int) -> bool:
    """Return whether a power cut explains a line with a wrong checksum, at byte `start` of its file."""
    if not text.endswith(b"\n"):
        return text[:9] != b"%08x " % crc32(text[9:-1])  # if equal, only the line's last byte is wrong
    for sector in range(start - start % SECTOR, start + len(text), SECTOR):
        part = text[max(sector - start, 0) : sector + SECTOR - start]
        if len(part) > 1 and not part.strip(b"\0"):
            return True
    return False


def _cut(path: Path, size: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(file, size)
        os.fsync(file)
    finally:
        os.close(file)
