"""The lock: a file of notifications is one process's alone.

``fcntl.flock`` of the standard library is all that it needs; the package filelock adds systems on which this server
does not run.
"""

import fcntl
import os
from pathlib import Path


class FileLock:
    """A file beside another one, which whoever has that one locks.

    It stays when the process ends, and the lock on it does not, however that ends.

    Args:
        path: of the file that is locked.

    Raises:
        BlockingIOError: another process has it.
        OSError: there can be no such file.
    """

    def __init__(self, path: Path) -> None:
        name = path.with_name(path.name + ".lock")
        self._file = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise

    def release(self) -> None:
        """Let the next one have it."""
        self._file.close()
