"""Limits that a worker process sets for itself, as far as the platform has them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NICENESS = 10
"""By how much the priority of a worker is lower than that of the server."""


def lower_priority() -> None:
    """Let the server go first."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def limit_memory(size: int) -> None:
    """Let allocations fail once the process has more than `size` bytes of address space."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            size = min(size, most)
        resource.setrlimit(resource.RLIMIT_AS, (size, most))


def be_killed_first() -> None:
    """Where the system has no memory left, let it end this process and not the server."""
    with suppress(OSError):  # no Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def ignore_signals() -> None:
    """Leave signals that a terminal or a supervisor sends to the whole group to the server, which ends its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
