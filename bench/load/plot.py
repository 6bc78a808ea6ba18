"""The plot of a load test: what people waited for and what the servers used, over time."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from .deployment import PORTS
from .figures import Moment


def draw(path: Path, moments: Sequence[Moment]) -> None:
    """Write a picture of p99 latencies and of the servers' CPU."""
    import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # only a run with a plot needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    figure, (waits, cpu) = plt.subplots(2, 1, figsize=(10, 7), sharex=True)
    for name in ("cursor", "edit"):
        points = [(moment.seconds, value) for moment in moments if (value := moment.p99[name]) is not None]
        waits.plot([at for at, _ in points], [value for _, value in points], marker=".", label=name)
    waits.set_ylabel("p99 ms")
    for name in PORTS:
        seen = [(moment.seconds, usage.seconds) for moment in moments if (usage := moment.usages[name]) is not None]
        pairs = list(pairwise(seen))
        shares = [100 * (after - before) / (end - begin) for (begin, before), (end, after) in pairs]
        cpu.plot([end for _, (end, _) in pairs], shares, marker=".", label=name)
    cpu.set_ylabel("server CPU %")
    cpu.set_xlabel("seconds")
    for axis in (waits, cpu):
        axis.set_ylim(bottom=0)
        axis.grid(color="#dddddd")
        axis.legend(loc="upper right", frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
