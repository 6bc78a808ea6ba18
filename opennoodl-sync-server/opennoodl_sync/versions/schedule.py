"""The schedule: decides which versions of a document are kept, and for how long."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..storage.interface import History, Version

OFF = "off"
UNITS = {"m": 60, "h": 3600, "d": 86_400}
SHARE = 4
"""One version may have this fraction (1/4) of the bytes of all, so that a large one does not replace all others."""
_RULE = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})([mhd])")


class Rule(NamedTuple):
    """The number of versions to keep, and the seconds between them."""

    number: int
    spacing: int


class Schedule(NamedTuple):
    """The rules that decide which versions are kept.

    Attributes:
        rules: a version is kept if at least one rule keeps it.
        most: limit of the bytes of one document's versions; 0 means no limit.
    """

    rules: tuple[Rule, ...]
    most: int = 0

    @property
    def spacing(self) -> int:
        """Shortest time between two versions, in seconds."""
        return min(rule.spacing for rule in self.rules)

    @property
    def most_of_one(self) -> int:
        """Limit of the bytes of one version; 0 means no limit."""
        return self.most // SHARE

    def due(self, history: History, now: int) -> bool:
        """Return whether a version is due: the newest one lacks changes and is old enough at `now`."""
        if not history.versions:
            return history.last >= 0
        newest = history.versions[-1]
        return newest.last != history.last and now - newest.time >= self.spacing

    def dropped(self, history: History, now: int) -> list[int]:
        """Return the times of the versions that are not kept.

        Each rule keeps the newest version of each interval. Intervals begin at multiples of the rule's spacing since
        1970. The newest version of all is kept while the document does not change.
        """
        versions = history.versions
        kept = set()
        for number, spacing in self.rules:
            newest = {version.time // spacing: version.time for version in versions}
            kept |= {time for time in newest.values() if now - time < number * spacing}
        kept |= {version.time for version in versions[-1:] if version.last == history.last}
        left = [version for version in versions if version.time in kept]
        kept -= set(oversized(left, self.most))
        return [version.time for version in versions if version.time not in kept]


def oversized(versions: Sequence[Version], most: int) -> list[int]:
    """Return the times of the versions to delete so that the others have at most `most` bytes; 0 means no limit.

    The newest version is never deleted.
    """
    left, dropped = list(versions), []
    while most and len(left) > 1 and sum(version.size for version in left) > most:
        closest = _closest(left)
        left.remove(closest)
        dropped.append(closest.time)
    return dropped


def _closest(versions: Sequence[Version]) -> Version:
    """Return the version with the shortest time to its successor; the oldest of several."""
    gaps = [later.time - earlier.time for earlier, later in pairwise(versions)]
    return versions[gaps.index(min(gaps))]


def parse(text: str, most: int) -> Schedule | None:
    """Return the schedule of a setting such as ``24x1h,30x1d``; None for ``off``.

    Raises:
        ValueError: the text is not a schedule.
    """
    if text == OFF:
        return None
    rules = []
    for part in text.split(","):
        rule = _RULE.fullmatch(part.strip())
        if rule is None:
            raise ValueError
        rules.append(Rule(int(rule[1]), int(rule[2]) * UNITS[rule[3]]))
    return Schedule(tuple(rules), most)
