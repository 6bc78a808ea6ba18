"""The scheduler: makes versions of documents that change while the server runs, and deletes old ones.

A version is made from the stored updates in a separate process, so no message waits for it. It is made

* of a document that was just loaded, with its content before any change, and
* of a document in memory that has changed,

if the newest version is old enough and lacks the newest change. Nothing needs to be remembered across a restart: a
version has the number of its last update, and a document that nobody opens does not change.

A clock may be wrong, also at the start of the server. Therefore versions are deleted for their age only by a sweep, and
only if the time of day has advanced like the monotonic clock in the hour before. Such a sweep also moves versions with
a time in the future to the present; otherwise no further version would be due until that time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic, time

import structlog

from ..edge.metrics import Counts
from ..storage.interface import History, PersistentStore, StoreError
from ..workers.task import TaskError
from .making import LATEST, Limits, TooLargeError, make_version
from .schedule import Schedule

INTERVAL = 1.0
"""Seconds between two checks of documents that were loaded."""
CHECK_INTERVAL = 10.0
"""Seconds between two checks of documents that have changed."""
SWEEP_INTERVAL = 3600.0
"""Seconds between two sweeps over the versions of all documents."""
RETRY_AFTER = 600
"""Seconds until a failed version is tried again."""
MAX_LOADED = 10_000
"""Documents that may wait for their check after loading; further ones get no version of their loaded state."""
HOUR = 3600
DAY = 24 * HOUR
"""Seconds. A version whose time is later than now by more than this was made with a wrong clock."""
STEP = 60.0
"""Largest difference in seconds between the time of day and the monotonic clock from one sweep to the next."""
OUTCOMES = ("made", "too-large", "failed")
"""Labels of the outcomes of versions that are due."""
FREE = 10
"""When all versions exceed their limit, this fraction of their bytes is freed: one in this number."""

log = structlog.get_logger()


class VersionScheduler:
    """Makes and deletes versions.

    Args:
        store: stores documents and versions.
        schedule: decides which versions are kept.
        most: limit of the bytes of all versions; 0 means no limit.
        largest: limit of the bytes of a document with versions; 0 means no limit.
        in_memory: returns whether a document is in memory.
        making: a lock from the read of a history until the new version is stored, so that times are unique.

    Attributes:
        size: the bytes of all versions that this process knows.
        outcomes: counts versions by outcome: `made`, `too-large` or `failed`.
        changed: is called with the name of a document that has changed.
    """

    def __init__(
        self,
        store: PersistentStore,
        schedule: Schedule,
        most: int,
        largest: int,
        in_memory: Callable[[str], bool],
        *,
        making: asyncio.Lock,
    ) -> None:
        self.size = 0
        self.outcomes = Counts(OUTCOMES)
        self._store = store
        self._schedule = schedule
        self._most = most
        self._limits = Limits(largest, schedule.most_of_one)
        self._in_memory = in_memory
        self._making = making
        self._loaded: dict[str, int] = {}  # by name of a loaded document: the number of its last update
        self._again: dict[str, float] = {}  # by name of a document in memory: monotonic time of its next check
        self._swept: tuple[float, float] | None = None  # time of day and monotonic time of the last sweep
        self._changed: set[str] = set()
        self.changed = self._changed.add

    def loaded(self, name: str, last: int) -> None:
        """Record the name of a document that was loaded, and the number of its last update."""
        if len(self._loaded) < MAX_LOADED:
            self._loaded.setdefault(name, last)

    async def run(self) -> None:
        """Make and delete versions, until cancelled."""
        check = sweep = 0.0
        while True:
            now = monotonic()
            if now >= sweep:
                sweep = now + SWEEP_INTERVAL
                await self.sweep()
            await self.check_loaded()
            if now >= check:
                check = now + CHECK_INTERVAL
                await self.check_changed()
            await asyncio.sleep(INTERVAL)

    async def check_loaded(self) -> None:
        """Make the versions that are due of loaded documents, with their state at loading."""
        while self._loaded:
            name = next(iter(self._loaded))
            last = self._loaded.pop(name)
            await self._check(name, last)

    async def check_changed(self) -> None:
        """Make the versions that are due of documents in memory that have changed."""
        for name in [name for name in self._again if not self._in_memory(name)]:
            del self._again[name]
        for name in list(self._changed):
            if not self._in_memory(name):
                self._changed.discard(name)  # its check comes after it is loaded again
            elif self._again.get(name, 0) <= monotonic():
                self._changed.discard(name)
                await self._check(name, LATEST)

    async def sweep(self) -> None:
        """Delete the versions that the schedule does not keep, and count the bytes of the others."""
        now, steady = time(), monotonic()
        since, self._swept = self._swept, (now, steady)
        believed = since is not None and abs(now - since[0] - (steady - since[1])) <= STEP
        try:
            if believed:
                await self._move_to(int(now))
            self.size = await self._drop(lambda history: self._schedule.dropped(history, int(now)) if believed else [])
        except StoreError as error:
            log.warning("versions could not be checked", error=str(error))

    async def _check(self, name: str, last: int) -> None:
        """Make a version of a document up to update number `last`, if one is due; set the time of the next check."""
        steady = monotonic()
        again = steady + RETRY_AFTER
        settled = False
        try:
            async with self._making:
                history = await self._store.history(name)
                now = int(time())
                if self._schedule.due(history._replace(last=min(last, history.last)), now):
                    await self._make(name, history, last)
            newest = history.versions[-1] if history.versions else None
            again = steady + self._schedule.spacing - (0 if newest is None else max(now - newest.time, 0))
            settled = newest is None or newest.last == history.last
        except TooLargeError as error:
            self.outcomes["too-large"] += 1
            log.warning("a document is too large for a version", error=str(error))
        except (StoreError, TaskError, OSError) as error:
            self.outcomes["failed"] += 1
            log.warning("a version could not be made", error=str(error))
        if self._in_memory(name):
            self._again[name] = again
            if not settled:
                self._changed.add(name)

    async def _make(self, name: str, history: History, last: int) -> None:
        """Make a version, and add it to a document's history."""
        version, content = await make_version(self._store, name, history, self._limits, last)
        if self._most and self.size + version.size > self._most:
            await self._make_space(version.size)
        history.versions.append(version)
        dropped = self._schedule.dropped(history, history.versions[0].time)  # deletes none for its age
        if version.time in dropped:
            return
        await self._store.change_versions(name, [(version, content)], dropped)
        self.size += version.size - sum(one.size for one in history.versions if one.time in dropped)
        self.outcomes["made"] += 1

    async def _make_space(self, size: int) -> None:
        """Delete the oldest versions of all documents, so that a new one of `size` bytes fits."""
        hours = Counter[int]()
        async for _, history in self._store.histories():
            for version in history.versions:
                hours[version.time // HOUR] += version.size
        left, oldest = hours.total(), 0
        for hour in sorted(hours):
            if left + size <= self._most - self._most // FREE:
                break
            left -= hours[hour]
            oldest = hour + 1
        log.warning("the oldest versions are dropped, since MAX_VERSIONS_SIZE is reached", hours=len(hours))
        self.size = await self._drop(
            lambda history: [version.time for version in history.versions if version.time // HOUR < oldest]
        )

    async def _move_to(self, now: int) -> None:
        """Move versions with a time in the future, so that a document's newest version has the time `now`."""
        async for name, history in self._store.histories():
            late = [version for version in history.versions if version.time > now + DAY]
            if not late:
                continue
            log.warning("versions that a wrong clock has dated in the future are moved", versions=len(late))
            earlier = history.versions[: -len(late)]
            last = earlier[-1].time if earlier else 0
            for version in late:
                last = max(version.time - (late[-1].time - now), last + 1)
                content = await self._store.read_version(name, version.time)
                if content is not None:
                    await self._store.change_versions(name, [(version._replace(time=last), content)], [version.time])

    async def _drop(self, choose: Callable[[History], list[int]]) -> int:
        """Delete the versions at the times that `choose` returns for each history; return the bytes of the others."""
        size = 0
        async for name, history in self._store.histories():
            dropped = choose(history)
            if dropped:
                await self._store.change_versions(name, [], dropped)
            size += sum(version.size for version in history.versions if version.time not in dropped)
        return size
