"""The plot: one panel for each thing that is compared, one point for each server."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .outcome import Metric
from .report import values
from .rounds import Results
from .scenarios import Scenario
from .servers import Peer

COLORS = ("#0b6e4f", "#c8553d", "#f2a541", "#8d99ae")
COLUMNS = 3


def draw(path: Path, results: Results, scenarios: Sequence[Scenario], peers: Sequence[Peer], title: str) -> None:
    """Write a picture of every metric that is compared: medians, and from the least to the most of the rounds."""
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # only who draws needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    panels: dict[tuple[str, Metric], list[Scenario]] = {}
    for scenario in scenarios:
        for metric in scenario.metrics:
            if metric.more is not None:
                panels.setdefault((scenario.group, metric), []).append(scenario)
    rows = -(-len(panels) // COLUMNS)
    height = 2.9 * rows + 1  # inches
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, height), squeeze=False)
    for axis, ((group, metric), members) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, group, metric=metric, members=members, results=results, peers=peers)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncol=len(peers), bbox_to_anchor=(0.5, 1 - 0.4 / height), frameon=False
    )
    figure.suptitle(title, fontsize=14, y=1 - 0.1 / height, va="top")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.7 / height))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _panel(
    axis: Any, title: str, *, metric: Metric, members: Sequence[Scenario], results: Results, peers: Sequence[Peer]
) -> None:
    ends: list[float] = []
    for index, (peer, color) in enumerate(zip(peers, COLORS, strict=False)):
        found = {place: values(results, scenario, peer, metric) for place, scenario in enumerate(members)}
        for place, each in found.items():
            if not each or min(each) <= 0:
                continue
            x, middle = place + (index - (len(peers) - 1) / 2) * 0.2, median(each)
            spread = [[middle - min(each)], [max(each) - middle]]
            axis.errorbar(x, middle, yerr=spread, fmt="o", ms=7, color=color, capsize=3)
            axis.annotate(_short(middle), (x, max(each)), (0, 6), textcoords="offset points", ha="center", fontsize=7)
            ends += [min(each), max(each)]
        axis.plot([], [], "o", color=color, label=peer.name)
    axis.set_yscale("log")
    if ends:
        axis.set_ylim(10 ** math.floor(math.log10(min(ends))), 10 ** math.ceil(math.log10(max(ends) * 1.6)))
    axis.yaxis.set_minor_formatter("")
    axis.grid(axis="y", color="#dddddd")
    axis.set_xlim(-0.5, len(members) - 0.5)
    axis.set_xticks(range(len(members)), [scenario.name for scenario in members])
    axis.set_title(f"{title}\n{metric.title} ({'more' if metric.more else 'less'} is better)", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
