"""The keeper: makes versions of documents that change while the server runs, and drops those that are too old.

A version is made of what is stored, in a process of its own, so no message waits for it. It is made

* of a document that was just loaded, as it was before anybody changed it, and
* of a document in memory that has changed,

if the newest version is old enough and lacks the newest change. Nothing has to be remembered over a restart for that:
a version has the number of its last update, and a document that nobody opens does not change.

A clock may be wrong, also when the server starts. So versions are dropped for their age only by a sweep, and only if
the time of day has gone with the monotonic clock for the hour before it. Such a sweep also moves versions that a clock
has dated in the future: no further one would be due until then.
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
"""Seconds between two looks at documents that were loaded."""
CHECK_INTERVAL = 10.0
"""Seconds between two looks at documents that have changed."""
SWEEP_INTERVAL = 3600.0
"""Seconds between two looks at the versions of all documents."""
RETRY_AFTER = 600
"""Seconds until a version is tried again that could not be made."""
MAX_LOADED = 10_000
"""Documents that wait for the first look at them; no version is made of a further one as it was loaded."""
HOUR = 3600
DAY = 24 * HOUR
"""Seconds. A version that is dated by more than that after now was dated by a wrong clock."""
STEP = 60.0
"""Seconds by which the time of day and the monotonic clock may differ between two sweeps."""
OUTCOMES = ("made", "too-large", "failed")
"""What becomes of versions that are due."""
FREE = 10
"""One in so many of the bytes of all versions is made free when they are too many."""

log = structlog.get_logger()


class VersionKeeper:
    """Keeps versions.

    Args:
        store: where documents and versions are.
        schedule: which versions are kept.
        most: bytes that all versions may take; 0 for any number.
        largest: bytes of the largest document of which versions are made; 0 for any number.
        in_memory: returns whether a document is in memory.
        making: is held from the look at a history until the new version is in it, so no two versions get one time.

    Attributes:
        size: bytes of all versions, as far as this process knows.
        outcomes: counts versions that were `made`, were `too-large` or `failed`.
        changed: takes note of the name of a document that has changed.
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
        self._loaded: dict[str, int] = {}  # documents that were loaded, and the numbers of their last updates
        self._again: dict[str, float] = {}  # when a document in memory is looked at again, by the monotonic clock
        self._swept: tuple[float, float] | None = None  # the time of day and the monotonic clock at the last sweep
        self._changed: set[str] = set()
        self.changed = self._changed.add

    def loaded(self, name: str, last: int) -> None:
        """Take note of a document that was loaded, and of the number of its last update."""
        if len(self._loaded) < MAX_LOADED:
            self._loaded.setdefault(name, last)

    async def run(self) -> None:
        """Make and drop versions, for ever."""
        check = sweep = 0.0
        while True:
            now = monotonic()
            if now >= sweep:
                sweep = now + SWEEP_INTERVAL
                await self.sweep()
            await self.look_at_loaded()
            if now >= check:
                check = now + CHECK_INTERVAL
                await self.look_at_changed()
            await asyncio.sleep(INTERVAL)

    async def look_at_loaded(self) -> None:
        """Make versions of documents as they were loaded, where they are due."""
        while self._loaded:
            name = next(iter(self._loaded))
            last = self._loaded.pop(name)
            await self._look(name, last)

    async def look_at_changed(self) -> None:
        """Make versions of documents in memory that have changed, where they are due."""
        for name in [name for name in self._again if not self._in_memory(name)]:
            del self._again[name]
        for name in list(self._changed):
            if not self._in_memory(name):
                self._changed.discard(name)  # its version is due when it is loaded again
            elif self._again.get(name, 0) <= monotonic():
                self._changed.discard(name)
                await self._look(name, LATEST)

    async def sweep(self) -> None:
        """Drop the versions of all documents that the schedule does not keep, and count the bytes of the others."""
        now, steady = time(), monotonic()
        since, self._swept = self._swept, (now, steady)
        believed = since is not None and abs(now - since[0] - (steady - since[1])) <= STEP
        try:
            if believed:
                await self._move_to(int(now))
            self.size = await self._drop(lambda history: self._schedule.dropped(history, int(now)) if believed else [])
        except StoreError as error:
            log.warning("versions could not be looked at", error=str(error))

    async def _look(self, name: str, last: int) -> None:
        """Make a version of a document as it was at an update, if one is due, and note when it is looked at again."""
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
        """Make a version, which is added to a document's history."""
        version, content = await make_version(self._store, name, history, self._limits, last)
        if self._most and self.size + version.size > self._most:
            await self._make_space(version.size)
        history.versions.append(version)
        dropped = self._schedule.dropped(history, history.versions[0].time)  # none for its age
        if version.time in dropped:
            return
        await self._store.change_versions(name, [(version, content)], dropped)
        self.size += version.size - sum(one.size for one in history.versions if one.time in dropped)
        self.outcomes["made"] += 1

    async def _make_space(self, size: int) -> None:
        """Drop the oldest versions of all documents, so that there is space for one of so many bytes."""
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
        """Move the versions that are dated in the future, so that the newest one of a document is of now."""
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
        """Drop the versions of the times that `choose` returns of each document; return the bytes of the others."""
        size = 0
        async for name, history in self._store.histories():
            dropped = choose(history)
            if dropped:
                await self._store.change_versions(name, [], dropped)
            size += sum(version.size for version in history.versions if version.time not in dropped)
        return size
