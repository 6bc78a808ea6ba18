"""Opens the store of the settings."""

from pathlib import Path

from ..edge.command_line import CommandError
from ..edge.errors import StartError
from ..settings import DATABASES, Settings
from .interface import PersistentStore
from .leveldb import files as leveldb_files
from .leveldb.store import LevelDBStore

MISSING = "DATABASE_URL needs the extra `postgresql`: pip install 'opennoodl-sync-server[postgresql]'"


async def open_store(settings: Settings) -> PersistentStore:
    """Return the open store of a server.

    Raises:
        StartError: it cannot be opened.
    """
    if settings.database_url:
        return await _open_postgresql(settings.database_url, fsync=settings.fsync == "true")
    return LevelDBStore(settings.persist_dir, fsync=settings.fsync)


async def open_for_command(settings: Settings, *, may_make: bool) -> PersistentStore:
    """Return the store of the settings for one of the operator's commands; see `open_place`."""
    return await open_place(settings.database_url or settings.persist_dir, may_make=may_make)


async def open_place(place: str, *, may_make: bool) -> PersistentStore:
    """Return the store at a place, opened for one of the operator's commands.

    Args:
        place: a directory, or the URL of a database.
        may_make: whether to create a missing store.

    Raises:
        StartError: it cannot be opened, or a server has locked the directory.
        CommandError: there is no store.
    """
    if "://" in place:
        return await _open_postgresql(place, fsync=True)
    if not may_make and not holds_documents(Path(place)):
        raise CommandError(f"PERSIST_DIR {place} holds no documents")
    return LevelDBStore(place, fsync="true")


def holds_documents(directory: Path) -> bool:
    """Return whether a directory has files of LevelDB, complete or not."""
    return directory.is_dir() and ((directory / "CURRENT").exists() or bool(leveldb_files.data_files(directory)))


async def _open_postgresql(url: str, *, fsync: bool) -> PersistentStore:
    try:
        from .postgresql.store import PostgreSQLStore
        from .postgresql.url import is_postgresql
    except ImportError as error:
        raise StartError(f"{MISSING} ({error.name} is missing)") from None
    if not is_postgresql(url):
        raise StartError(f"DATABASE_URL is not a URL of PostgreSQL; {DATABASES}")
    store = PostgreSQLStore(url, fsync=fsync)
    await store.start()
    return store
