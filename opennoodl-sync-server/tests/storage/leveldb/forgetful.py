"""A file system in user space that loses unsynced data, like a disk after a power cut.

It is a process: ``python forgetful.py BACKING MOUNT`` serves the files of the directory BACKING at MOUNT. The creation
of a directory ``.cut`` there is the power cut. After the unmount, BACKING has the data that was synced before the cut.
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
        mode: its type and permissions.
        content: the content of a file.
        names: the entries of a directory.
        synced_content: the content on disk.
        synced_names: the entries on disk.
    """

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.content = bytearray()
        self.names: dict[str, Node] = {}
        self.synced_content = bytearray()
        self.synced_names: dict[str, Node] = {}
        self._same = 0  # length of the common prefix of `content` and `synced_content`, at least

    def change(self, at: int, data: bytes) -> None:
        """Replace the content from an offset on."""
        self.content.extend(bytes(max(at - len(self.content), 0)))
        self.content[at : at + len(data)] = data
        self._same = min(self._same, at)

    def truncate(self, size: int) -> None:
        """Set the size of the content."""
        self._same = min(self._same, size, len(self.content))
        self.content[:] = self.content[:size].ljust(size, b"\x00")

    def sync(self) -> None:
        """Write the present state to disk."""
        self.synced_content[self._same :] = self.content[self._same :]
        self._same = len(self.content)
        self.synced_names = dict(self.names)


class Forgetful(mfusepy.Operations):  # type: ignore[misc]  # mfusepy has no types for it
    """The file system. After the power cut, every operation fails.

    Args:
        backing: the directory with the initial files, and at the end with the synced ones.
    """

    use_ns = True

    def __init__(self, backing: Path) -> None:
        self._backing = backing
        self._root = _load(backing)
        self._cut = False

    def destroy(self, path: str) -> None:
        """Write the synced files to the backing directory."""
        shutil.rmtree(self._backing)
        _save(self._root, self._backing)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return the result of ``stat``."""
        node = self._find(path)
        return {
            "st_mode": node.mode,
            "st_nlink": 1,
            "st_size": len(node.content),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        """Return the entries of a directory."""
        return [".", "..", *self._find(path).names]

    def mkdir(self, path: str, mode: int) -> None:
        """Create a directory; the name ``.cut`` causes the power cut."""
        self._add(path, Node(stat.S_IFDIR | mode))
        self._cut = self._cut or path == "/.cut"

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Create a file."""
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
        """Write a part of a file."""
        self._find(path).change(offset, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        """Set the size of a file."""
        self._find(path).truncate(length)

    def rename(self, old: str, new: str) -> None:
        """Rename a file; replace an existing one."""
        node = self._find(old)
        self.unlink(old)
        self._add(new, node)

    def unlink(self, path: str) -> None:
        """Remove a name; open descriptors of the file are not supported."""
        directory, name = os.path.split(path)
        del self._find(directory).names[name]

    def chmod(self, path: str, mode: int) -> None:
        """Set the permissions of a file."""
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | mode

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        """Sync a file's content."""
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
