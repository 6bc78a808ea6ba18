"""Limits that a worker process sets for itself, where the platform supports them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NICENESS = 10
"""The difference between the niceness of a worker and that of the server."""


def lower_priority() -> None:
    """Lower the priority of this process below that of the server."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def limit_memory(size: int) -> None:
    """Limit the address space of this process to `size` bytes; further allocations fail."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            size = min(size, most)
        resource.setrlimit(resource.RLIMIT_AS, (size, most))


def be_killed_first() -> None:
    """Make the system end this process before the server when it has no memory left."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def ignore_signals() -> None:
    """Ignore the signals that a terminal or supervisor sends to the process group; the server ends its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
