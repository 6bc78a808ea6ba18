"""Syncs the database once a second in a thread, so that no write waits for the disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from ..interface import StoreError
from .database import Database

INTERVAL = 1.0
"""Seconds between two syncs."""

log = structlog.get_logger()


async def sync_every_second(database: Database, failed: Callable[[], None]) -> None:
    """Sync a database each second in which something was written, until cancelled.

    Args:
        database: the database.
        failed: is called after a failure. Write something soon then, so that the database recovers.
    """
    healthy = True
    # A separate thread: in the writer's thread, a large batch would wait for the sync.
    with ThreadPoolExecutor(1, "sync") as thread:
        while True:
            await asyncio.sleep(INTERVAL)
            if not database.unsynced:
                continue
            try:
                await asyncio.get_running_loop().run_in_executor(thread, database.sync)
            except StoreError as error:
                if healthy:  # log each failure once, not each second
                    log.error("written data could not be synced to the disk", error=str(error))
                healthy = False
                failed()
            else:
                healthy = True
