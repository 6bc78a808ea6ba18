"""The data files: how much a server has on the disk of this machine, and how much is free there."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from shutil import disk_usage

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

INTERVAL = 15.0
"""Seconds between two measurements, each in a thread: there may be thousands of files, and a disk may hang."""

log = structlog.get_logger()


class DataFiles:
    """The files of a store.

    Args:
        directory: in which they are.
        prefix: with which their names begin.

    Attributes:
        size: bytes of all files.
        free: bytes that are free on their disk.
    """

    def __init__(self, directory: Path, prefix: str = "") -> None:
        self._directory, self._prefix = directory, prefix
        self.size = self.free = 0

    async def measure(self) -> None:
        """Find out how much there is.

        Raises:
            OSError: the directory cannot be read.
        """
        self.size, self.free = await asyncio.to_thread(self._measure)

    async def watch(self) -> None:
        """Measure now and then, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.measure()
            except OSError as error:  # a write fails then too, and says more
                log.warning("the data directory cannot be read", error=str(error))

    def families(self) -> Iterable[Metric]:
        """Return what the metrics show."""
        yield GaugeMetricFamily("opennoodl_data_bytes", "Bytes of the data's files.", self.size)
        yield GaugeMetricFamily("opennoodl_data_free_bytes", "Free bytes on the disk of the data.", self.free)

    def _measure(self) -> tuple[int, int]:
        size = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith(self._prefix):
                    try:
                        size += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # it was deleted just now
                        continue
        return size, disk_usage(self._directory).free
