"""The stores there are, and which one a setting means."""

from pathlib import Path

from ..edge.errors import StartError
from ..inbox.store import Store
from .json_file.store import JsonStore

MISSING = "a database needs the extra `sql`: pip install 'opennoodl-notification-server[sql]'"


def same(one: str, other: str) -> bool:
    """Return whether two places are the same, as far as their spelling tells; StartError: one of them is none."""
    return _spelled_out(one) == _spelled_out(other)


def _spelled_out(place: str) -> str:
    if "://" not in place:
        return str(Path(place).resolve())
    try:
        from .sql.store import spelled_out
    except ImportError as error:
        raise StartError(f"{MISSING} ({error.name} is missing)") from None
    return spelled_out(place)


def choose(place: str, *, create: bool = True, read_only: bool = False) -> Store:
    """Return the store at `place`, not opened yet.

    Args:
        place: the URL of a database, or the path of a file.
        create: whether it is made if it is not there.
        read_only: whether it is only looked into, maybe while a server uses it.

    Raises:
        StartError: the URL is wrong, or what it needs is not installed.
    """
    if "://" not in place:
        return JsonStore(place, create=create, read_only=read_only)
    try:
        from .sql.store import SqlStore
    except ImportError as error:
        raise StartError(f"{MISSING} ({error.name} is missing)") from None
    return SqlStore(place, create=create, read_only=read_only)
