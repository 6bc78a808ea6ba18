"""CPU quotas: a process may use a part of a core, and gets it also on a busy machine. Linux, for root."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path("/sys/fs/cgroup")
PERIOD = 10_000
"""Microseconds; short, so that a process that has used its quota waits for milliseconds and not for a tenth of one."""


class Quota:
    """A cgroup, of version 1 or 2, whose processes together may use a part of a core.

    Args:
        directory: of the cgroup.
        percent: of one core.
    """

    def __init__(self, directory: Path, percent: float) -> None:
        self._directory = directory
        allowed = round(PERIOD * percent / 100)
        if (directory / "cpu.max").exists():
            (directory / "cpu.max").write_text(f"{allowed} {PERIOD}")
            (directory / "cpu.weight").write_text("10000")
        else:
            (directory / "cpu.cfs_period_us").write_text(str(PERIOD))
            (directory / "cpu.cfs_quota_us").write_text(str(allowed))
            (directory / "cpu.shares").write_text("262144")

    def hold(self, pid: int) -> None:
        """Let the quota hold for a process, with all its threads."""
        (self._directory / "cgroup.procs").write_text(str(pid))


@contextmanager
def quota(percent: float, root: Path = ROOT) -> Iterator[Quota]:
    """Make a quota; its processes have to end before the block does.

    Args:
        percent: of one core.
        root: where cgroups are mounted.

    Raises:
        OSError: this user may not make one.
    """
    parent = root / "cpu" if (root / "cpu").is_dir() else root
    directory = Path(mkdtemp(prefix="bench-", dir=parent))
    try:
        yield Quota(directory, percent)
    finally:
        directory.rmdir()
