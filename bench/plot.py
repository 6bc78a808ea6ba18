"""The plot: one panel for each thing that is compared, one bar for each server."""

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
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 2.9 * rows + 1), squeeze=False)
    for axis, ((group, metric), members) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, group, metric=metric, members=members, results=results, peers=peers)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(peers), bbox_to_anchor=(0.5, 0.975), frameon=False)
    figure.suptitle(title, fontsize=14)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _panel(
    axis: Any, title: str, *, metric: Metric, members: Sequence[Scenario], results: Results, peers: Sequence[Peer]
) -> None:
    width = 0.8 / len(peers)
    for index, (peer, color) in enumerate(zip(peers, COLORS, strict=False)):
        found = [values(results, scenario, peer, metric) or [0.0] for scenario in members]
        middles = [median(each) for each in found]
        below = [middle - min(each) for middle, each in zip(middles, found, strict=True)]
        above = [max(each) - middle for middle, each in zip(middles, found, strict=True)]
        at = [place + (index - (len(peers) - 1) / 2) * width for place in range(len(members))]
        axis.bar(at, middles, width * 0.9, yerr=[below, above], color=color, label=peer.name, error_kw={"lw": 1})
        for x, middle in zip(at, middles, strict=True):
            if middle:
                axis.annotate(_short(middle), (x, middle), ha="center", va="bottom", fontsize=7)
    axis.set_yscale("log")
    axis.margins(y=0.15)
    axis.set_xticks(range(len(members)), [scenario.name for scenario in members])
    axis.set_title(f"{title}\n{metric.title} ({'more' if metric.more else 'less'} is better)", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
