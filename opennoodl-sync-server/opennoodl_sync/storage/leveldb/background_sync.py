"""Has what was written reach the disk itself once a second, in a thread: nobody waits for it."""

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
    """Sync a database for ever, whenever something was written.

    Args:
        database: the database.
        failed: is called when that failed; something should be written soon, so that the database recovers.
    """
    healthy = True
    # A thread of its own: the writer's may have a large batch to write, which would then wait for the disk.
    with ThreadPoolExecutor(1, "sync") as thread:
        while True:
            await asyncio.sleep(INTERVAL)
            if not database.unsynced:
                continue
            try:
                await asyncio.get_running_loop().run_in_executor(thread, database.sync)
            except StoreError as error:
                if healthy:  # one line for each failure, not for each second
                    log.error("written data could not be synced to the disk", error=str(error))
                healthy = False
                failed()
            else:
                healthy = True
