"""Chooses the store of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..edge.errors import StartError
from ..inbox.store import Store
from .json_file.store import JsonStore

if TYPE_CHECKING:
    from .sql.channel import Channel

ACCEPTED = "accepted is postgresql://user:password@host/name"
MISSING = "a database needs the extra `sql`: pip install 'opennoodl-notification-server[sql]'"


def same(one: str, other: str) -> bool:
    """Return whether two places are the same after normalization; StartError: one of them is not valid."""
    return _spelled_out(one) == _spelled_out(other)


def _spelled_out(place: str) -> str:
    if "://" not in place:
        return str(Path(place).resolve())
    try:
        from .sql.engines import normalized
    except ImportError as error:
        raise StartError(f"{MISSING} ({error.name} is missing)") from None
    return normalized(place)


def choose_channel(place: str, listen_url: str) -> Channel | None:
    """Return the channel to other instances that use the same store, not opened yet; None if there can be none.

    Args:
        place: the place of the store.
        listen_url: the URL of the same database without a pooler; "" if `place` has no pooler.

    Raises:
        StartError: a URL is not valid.
    """
    postgresql = False
    if "://" in place:
        from .sql.postgresql import is_postgresql

        postgresql = is_postgresql(place)
        if listen_url and not is_postgresql(listen_url):
            raise StartError(f"DATABASE_LISTEN_URL is not a PostgreSQL URL; {ACCEPTED}")
    if not postgresql:
        if listen_url:
            raise StartError("DATABASE_LISTEN_URL is set, but DATABASE_URL is not a PostgreSQL URL; unset one of them")
        return None
    from .sql.channel import Channel

    return Channel(listen_url or place)


def choose(place: str, *, create: bool = True, read_only: bool = False) -> Store:
    """Return the store at `place`, not opened yet.

    Args:
        place: the URL of a database, or the path of a file.
        create: whether to create the store if it does not exist.
        read_only: whether to read only, perhaps while a server uses it.

    Raises:
        StartError: the URL is not valid, or a necessary package is not installed.
    """
    if "://" not in place:
        return JsonStore(place, create=create, read_only=read_only)
    try:
        from .sql.store import SqlStore
    except ImportError as error:
        raise StartError(f"{MISSING} ({error.name} is missing)") from None
    return SqlStore(place, create=create, read_only=read_only)
