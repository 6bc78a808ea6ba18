"""The report: tables and ratios in Markdown."""

import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from statistics import median

from .machine import shape
from .outcome import Metric
from .rounds import Results
from .scenarios import Scenario
from .servers import Peer, node


@dataclass(frozen=True)
class Ratio:
    """Ours by the best peer's, in each round.

    Attributes:
        peer: the one whose median is best.
        ratios: one for each round in which both have a value.
    """

    peer: Peer
    ratios: Sequence[float]

    def __str__(self) -> str:
        parts = [_ratio(f(self.ratios)) for f in (min, median, max)]
        return parts[0] if len(set(parts)) == 1 else "-".join(parts)


def _ratio(value: float) -> str:
    if value < 0.01:
        return f"{value:.1g}" if value >= 0.0001 else f"{value:.5f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def values(results: Results, scenario: Scenario, peer: Peer, metric: Metric) -> list[float]:
    """Return a metric's values over the rounds."""
    found = [outcome.values.get(metric.name) for outcome in results.of(scenario, peer)]
    return [value for value in found if value is not None]


def ratio(results: Results, scenario: Scenario, peers: Sequence[Peer], metric: Metric) -> Ratio | None:
    """Return ours, the first one's, by the best peer's, or None if there is nothing to compare."""
    first = peers[0]
    rivals = {
        peer.name: peer
        for peer in peers
        if peer is not first and not peer.reference and values(results, scenario, peer, metric)
    }
    if metric.more is None or not rivals or not values(results, scenario, first, metric):
        return None
    choose = max if metric.more else min
    best = choose(rivals.values(), key=lambda peer: median(values(results, scenario, peer, metric)))
    pairs = zip(results.of(scenario, first), results.of(scenario, best), strict=False)
    ratios = [
        ours.values[metric.name] / theirs.values[metric.name]
        for ours, theirs in pairs
        if ours.values.get(metric.name) is not None and theirs.values.get(metric.name)
    ]
    return Ratio(best, ratios) if ratios else None


def markdown(results: Results, scenarios: Sequence[Scenario], peers: Sequence[Peer], *, title: str, about: str) -> str:
    """Return the whole report."""
    lines = [f"# {title}", "", *about.splitlines(), ""]
    lines += [f"* Machine: {shape()}.", f"* {_versions(peers)}"]
    least, most = results.rounds
    rounds = f"{most}" if least == most else f"{least} to {most}"
    lines += [f"* Rounds: {rounds}, in {results.seconds / 60:.0f} minutes. Cells: median (least-most) of the rounds."]
    lines += [f"* {peer.name}: {peer.about}." for peer in peers]
    lines += ["", "## Ratios", "", *_ratios(results, scenarios, peers)]
    for group, members in groupby(scenarios, key=lambda scenario: scenario.group):
        lines += ["", f"## {group}", "", *_table(results, list(members), peers)]
    return "\n".join(lines) + "\n"


def _versions(peers: Sequence[Peer]) -> str:
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("uvloop", "websockets", "pycrdt", "picows", "SQLAlchemy")]
    if any(peer.command[0] == "node" for peer in peers):
        said = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
        parts.append(f"Node {said.stdout.strip().lstrip('v')}")
    return f"Versions: {', '.join(parts)}."


def _ratios(results: Results, scenarios: Sequence[Scenario], peers: Sequence[Peer]) -> Iterator[str]:
    yield "Ours by the best peer's, least-median-most of the rounds."
    yield ""
    yield "| scenario | metric | better is | ratio | best peer |"
    yield "| --- | --- | --- | ---: | --- |"
    for scenario in scenarios:
        for metric in scenario.metrics:
            found = ratio(results, scenario, peers, metric)
            if found is not None:
                better = "more" if metric.more else "less"
                yield f"| {scenario.title} | {metric.title} | {better} | {found} | {found.peer.name} |"


def _table(results: Results, scenarios: Sequence[Scenario], peers: Sequence[Peer]) -> Iterator[str]:
    metrics = scenarios[0].metrics
    yield "| scenario | server | " + " | ".join(metric.title for metric in metrics) + " | remarks |"
    yield "| --- | --- |" + " ---: |" * len(metrics) + " --- |"
    for scenario in scenarios:
        for peer in peers:
            outcomes = results.of(scenario, peer)
            if not outcomes:
                continue
            cells = [_cell(values(results, scenario, peer, metric), metric.digits) for metric in metrics]
            notes = [note for outcome in outcomes for note in outcome.notes]
            yield f"| {scenario.title} | {peer.name} | {' | '.join(cells)} | {_remarks(notes)} |"


def _cell(found: Sequence[float], digits: int) -> str:
    if not found:
        return "-"
    middle, least, most = (f"{f(found):,.{digits}f}" for f in (median, min, max))
    return middle if least == most else f"{middle} ({least}-{most})"


def _remarks(notes: Sequence[str]) -> str:
    """Return the notes of all rounds, of those that differ only in numbers the first one, and how many there were."""
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kinds.setdefault(re.sub(r"\d+", "0", note), []).append(note)
    return "; ".join(f"{same[0]} ({len(same)} times)" if len(same) > 1 else same[0] for same in kinds.values())
