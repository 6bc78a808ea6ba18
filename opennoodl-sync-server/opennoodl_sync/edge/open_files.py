"""Open files: every connection is one, and so is much of what a store reads."""

from __future__ import annotations

import resource
import sys

import msgspec

from .errors import StartError
from .settings import EdgeSettings, S

RESERVE = 64
"""Files for the listening sockets, the event loop, the store's own files, and questions to issuers."""
STORE_SHARE = 5
"""One file in so many is left to the store: LevelDB keeps up to a fifth of what the process may open."""
FEWEST = 16
"""Connections with which a server is of any use."""
FALLBACK = 10_240
"""The limit that macOS applies when it reports none (``OPEN_MAX``)."""


def raise_limit() -> int:
    """Let this process open as many files as it may; return how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, FALLBACK):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (ValueError, OSError):  # more than the system grants
            continue
        break
    return _limit()


def fit(settings: S, limit: int) -> tuple[S, str]:
    """Return settings with no more connections than `limit` open files allow, and the warning if that is fewer.

    Raises:
        StartError: hardly any connection could be opened.
    """
    # A quarter is for clients that are not let in yet, and for those that come within one turn of the event loop.
    most = _for_clients(limit) * 3 // 4 // settings.files_per_connection
    if most < FEWEST:
        raise StartError(f"this process may open only {limit} files; raise the limit, for instance with ulimit -n")
    if 0 < settings.max_connections <= most or limit == sys.maxsize:
        return settings, ""
    wanted = str(settings.max_connections or "0, for any number")
    warning = f"MAX_CONNECTIONS is {wanted}, but the limit of {limit} open files allows {most}; raise it for more"
    return msgspec.structs.replace(settings, max_connections=most), warning


def spare(settings: EdgeSettings) -> int:
    """Return how many clients may be on the way in beside all connections, and how many may come at once."""
    connections = settings.max_connections * settings.files_per_connection
    return max((_for_clients(_limit()) - connections) // 2, FEWEST)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _for_clients(limit: int) -> int:
    return limit - limit // STORE_SHARE - RESERVE
