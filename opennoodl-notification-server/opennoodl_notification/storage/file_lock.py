"""The lock of a file of notifications, which only one process may use.

``fcntl.flock`` is sufficient. The package filelock would add systems on which this server does not run.
"""

import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock file beside another file.

    The lock ends with the process, also after a crash. The lock file stays.

    Args:
        path: the path of the file to lock.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the lock file cannot be created.
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
        """Release the lock."""
        self._file.close()
