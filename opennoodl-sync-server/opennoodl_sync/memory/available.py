"""How much memory this process may have: the machine's, or that of its cgroup if it has less."""

import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Return bytes of memory; None if the system does not say.

    Args:
        root: of the file system.
    """
    return min(filter(None, (_machine_memory(), _cgroup_memory(root))), default=None)


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, and systems without these names
        return None


def _cgroup_memory(root: Path) -> int | None:
    """Return the least limit of this process's cgroups and those above them, of version 1 or 2.

    Within a container, /proc may name a path of the host, and the container's own limit stands at the top.
    """
    limits = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for directory in (top, *(top / parent for parent in (group, *group.parents))):
            limit = _read(directory / name).strip()
            if limit.isdigit():  # and not "max"
                limits.append(int(limit))
    return min(limits, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no Linux, no cgroups, or a path of the host
        return ""
