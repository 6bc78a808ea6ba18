"""The figures of a load test, and what they mean in words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..outcome import quantile
from .deployment import Usage


class Kind(NamedTuple):
    """One kind of wait.

    Attributes:
        title: for people.
        bound: milliseconds in which 99 of 100 have to come, for the verdict to be good.
    """

    title: str
    bound: float


KINDS = {
    "connection": Kind("open three connections", 3000),
    "cursor": Kind("see a cursor move", 100),
    "edit": Kind("see an edit", 1000),
    "signal": Kind("get the answer to an offer", 1000),
    "notification": Kind("get a notification", 1000),
}
LATE = 50.0
"""Milliseconds by which a hundredth of the messages may be sent late; with more, the load was another one."""


@dataclass
class Figures:
    """The results of all people.

    Attributes:
        waits: seconds, by the name of a kind.
        lost: what did not come within the time after the load, by the name of a kind.
        refused: refusals of a server, by what it said.
        ended: connections that a server or the network ended, by server and close code.
        lags: seconds by which messages were sent too late.
    """

    waits: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in KINDS})
    lost: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lags: list[float] = field(default_factory=list)

    def p99(self, name: str, since: int = 0) -> float | None:
        """Return the milliseconds within which 99 of 100 came, of those from number `since` on; None without any."""
        waits = sorted(self.waits[name][since:])
        return 1000 * quantile(waits, 0.99) if waits else None


class Moment(NamedTuple):
    """One interval of the load.

    Attributes:
        seconds: since the load began, at its end.
        rates: what came in a second, by the name of a kind.
        p99: milliseconds, by the name of a kind; None where nothing came.
        usages: what the metrics of each server said at its end; None where they could not be read.
    """

    seconds: float
    rates: Mapping[str, float]
    p99: Mapping[str, float | None]
    usages: Mapping[str, Usage | None]


def verdict(figures: Figures, people: int) -> tuple[bool, list[str]]:
    """Return whether all is well, and the sentences that say so or why not."""
    faults = [f"{number:,} times, {reason}." for reason, number in figures.refused.most_common()]
    faults += [f"{number:,} connections ended: {reason}." for reason, number in figures.ended.most_common()]
    faults += [f"{number:,} did not arrive: {KINDS[name].title}." for name, number in figures.lost.most_common()]
    slow = [
        f"To {kind.title} took {p99:,.0f} ms at p99; {kind.bound:,.0f} ms are good."
        for name, kind in KINDS.items()
        if (p99 := figures.p99(name)) is not None and p99 > kind.bound
    ]
    lag = 1000 * quantile(sorted(figures.lags), 0.99) if figures.lags else 0.0
    if lag > LATE:
        late = f"This machine sent its messages up to {lag:,.0f} ms late (p99), so it was the limit."
        return False, [f"Unclear: {late} Use a faster one, or fewer people.", *faults, *slow]
    if faults:
        return False, [f"Faulty with {people} people.", *faults, *slow]
    if slow:
        return False, [f"Slow with {people} people.", *slow]
    if not figures.waits["edit"]:
        return False, ["Unclear: nothing was measured."]
    return True, [f"Good: {people} people can work at the same time."]


def table(figures: Figures) -> Iterator[str]:
    """Yield the rows of what people waited for, in Markdown."""
    yield "| people wait to | times | p50 ms | p99 ms | longest ms | good p99 ms |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, kind in KINDS.items():
        waits = sorted(figures.waits[name])
        if waits:
            marks = quantile(waits, 0.5), quantile(waits, 0.99), waits[-1]
            cells = " | ".join(f"{1000 * mark:,.1f}" for mark in marks)
            yield f"| {kind.title} | {len(waits):,} | {cells} | {kind.bound:,.0f} |"


def server_table(moments: Sequence[Moment], names: Sequence[str]) -> Iterator[str]:
    """Yield the rows of what the servers' metrics said, in Markdown."""
    unreadable = False
    yield "| server | CPU % | most CPU % | most memory MiB | most connections | rate-limited | errors |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name in names:
        seen = [(moment.seconds, usage) for moment in moments if (usage := moment.usages[name]) is not None]
        if len(seen) < 2:
            yield f"| {name} | metrics not readable | | | | | |"
            unreadable = True
            continue
        shares = [
            100 * (after.seconds - before.seconds) / (end - begin) for (begin, before), (end, after) in pairwise(seen)
        ]
        (began, first), (ended, last) = seen[0], seen[-1]
        yield (
            f"| {name} | {100 * (last.seconds - first.seconds) / (ended - began):.0f} | {max(shares):.0f} "
            f"| {max(usage.memory for _, usage in seen):,.0f} | {max(usage.connections for _, usage in seen):,.0f} "
            f"| {last.limited - first.limited:,.0f} | {last.errors - first.errors:,.0f} |"
        )
    if unreadable:
        yield ""
        yield "A proxy may refuse `/metrics`, as Caddy does with `--profile tls`."
