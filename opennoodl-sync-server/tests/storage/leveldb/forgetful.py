"""A file system in user space that forgets what was not synced, as a disk does whose power is cut.

A process of its own: ``python forgetful.py BACKING MOUNT`` serves the files of the directory BACKING at MOUNT. When a
directory ``.cut`` is made there, the power is cut. What was synced until then is in BACKING once it is unmounted.
A file's content is synced by `fsync`, and its name by `fsync` of its directory.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import mfusepy


class Node:
    """A file or directory.

    Attributes:
        mode: its type and who may use it.
        content: of a file.
        names: of a directory, and what they stand for.
        synced_content: what of the content is on the disk.
        synced_names: what of the names is.
    """

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.content = bytearray()
        self.names: dict[str, Node] = {}
        self.synced_content = bytearray()
        self.synced_names: dict[str, Node] = {}
        self._same = 0  # bytes of the content that are synced for sure

    def change(self, at: int, data: bytes) -> None:
        """Replace the content from an offset on."""
        self.content.extend(bytes(max(at - len(self.content), 0)))
        self.content[at : at + len(data)] = data
        self._same = min(self._same, at)

    def truncate(self, size: int) -> None:
        """Give the content another size."""
        self._same = min(self._same, size, len(self.content))
        self.content[:] = self.content[:size].ljust(size, b"\x00")

    def sync(self) -> None:
        """Have what it is now on the disk."""
        self.synced_content[self._same :] = self.content[self._same :]
        self._same = len(self.content)
        self.synced_names = dict(self.names)


class Forgetful(mfusepy.Operations):  # type: ignore[misc]  # mfusepy has no types for it
    """The file system. After the power was cut, everything fails.

    Args:
        backing: where files are at first, and what was synced is in the end.
    """

    use_ns = True

    def __init__(self, backing: Path) -> None:
        self._backing = backing
        self._root = _load(backing)
        self._cut = False

    def destroy(self, path: str) -> None:
        """Leave what was synced."""
        shutil.rmtree(self._backing)
        _save(self._root, self._backing)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return what ``stat`` shows."""
        node = self._find(path)
        return {
            "st_mode": node.mode,
            "st_nlink": 1,
            "st_size": len(node.content),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        """Return the names in a directory."""
        return [".", "..", *self._find(path).names]

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory; one named ``.cut`` cuts the power."""
        self._add(path, Node(stat.S_IFDIR | mode))
        self._cut = self._cut or path == "/.cut"

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Make a file."""
        self._add(path, Node(stat.S_IFREG | mode))
        return 0

    def open(self, path: str, flags: int) -> int:
        """Open a file."""
        self._find(path)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return a part of a file."""
        return bytes(self._find(path).content[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Change a part of a file."""
        self._find(path).change(offset, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        """Change how long a file is."""
        self._find(path).truncate(length)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; it takes the place of one that has it."""
        node = self._find(old)
        self.unlink(old)
        self._add(new, node)

    def unlink(self, path: str) -> None:
        """Take a name away; who has the file open has no use for it here."""
        directory, name = os.path.split(path)
        del self._find(directory).names[name]

    def chmod(self, path: str, mode: int) -> None:
        """Change who may use a file."""
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | mode

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        """Have a file's content on the disk."""
        self._find(path).sync()

    fsyncdir = fsync

    def _find(self, path: str) -> Node:
        if self._cut and path not in ("/", "/.cut"):
            raise mfusepy.FuseOSError(errno.EIO)
        node = self._root
        for name in filter(None, path.split("/")):
            if name not in node.names:
                raise mfusepy.FuseOSError(errno.ENOENT)
            node = node.names[name]
        return node

    def _add(self, path: str, node: Node) -> None:
        directory, name = os.path.split(path)
        self._find(directory).names[name] = node


def _load(path: Path) -> Node:
    node = Node(path.stat().st_mode)
    if path.is_dir():
        node.names = {child.name: _load(child) for child in path.iterdir()}
    else:
        node.change(0, path.read_bytes())
    node.sync()
    return node


def _save(node: Node, path: Path) -> None:
    if not stat.S_ISDIR(node.mode):
        path.write_bytes(node.synced_content)
        return
    path.mkdir()
    for name, child in node.synced_names.items():
        _save(child, path / name)


if __name__ == "__main__":
    mfusepy.FUSE(Forgetful(Path(sys.argv[1])), sys.argv[2], foreground=True, nothreads=True)
