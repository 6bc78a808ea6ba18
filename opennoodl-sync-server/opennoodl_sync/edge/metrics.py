"""Metrics: plain numbers on the hot path, turned into Prometheus text only when scraped.

Every name here is the same in all three servers, so that one dashboard serves them all. Labels come
from closed sets; what falls outside is counted as ``other``.

prometheus-client makes the text. Its own counters and histograms are not used, since they take a lock for each event.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .refusals import HANDSHAKES, Refusals

SIZES = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
SECONDS = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1013})
"""Those of RFC 6455 that a client or the edge may send."""

TOKENS = ("accepted", "refused", "unavailable")
"""Outcomes of checks of tokens."""


class Histogram:
    """Counts of observations by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one `value`, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def family(self, name: str, help_: str) -> Metric:
        """Return the histogram as Prometheus wants it: cumulative buckets, sum and count."""
        cumulated, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            cumulated += count
            buckets.append((bound, cumulated))
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self.total)


class Metrics(Collector):
    """What one server counts: the edge's numbers, and those that its own server adds.

    Args:
        version: the version of the package.
        failure: returns why the server cannot do its work, or None.
        own: called at every scrape for the metrics that only this server has.
        close_codes: those that only this server sends.
        refusals: count the clients that are refused.
        errors: the codes of messages that are answered with an error, if the server has such.
    """

    def __init__(
        self,
        version: str,
        failure: Callable[[], str | None],
        own: Callable[[], Iterable[Metric]],
        close_codes: frozenset[int] = frozenset(),
        *,
        refusals: Refusals,
        errors: Iterable[str] = (),
    ) -> None:
        self.version = version
        self.open_connections = 0
        self._tasks = 0
        self.total_connections = 0
        # From zero, so that Prometheus sees the first one as an increase.
        self.errors = Counter(dict.fromkeys(errors, 0))
        self._refusals = refusals
        self.closes: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.message_sizes = Histogram(SIZES)
        self.handling = Histogram(SECONDS)
        self.lag = Histogram(SECONDS)
        self.rate_limited: Counter[str] = Counter()
        self.tokens = Counter(dict.fromkeys(TOKENS, 0))
        self._failure = failure
        self._own = own
        self._close_codes = CLOSE_CODES | close_codes
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def opened(self) -> None:
        """Count a connection whose handshake is done."""
        self.open_connections += 1
        self.total_connections += 1

    def closed(self, code: int) -> None:
        """Count the end of a connection by its close code (1006 where there was none)."""
        self.open_connections -= 1
        self.closes[str(code) if code in self._close_codes else "other"] += 1

    def text(self, tasks: int = 0) -> bytes:
        """Return everything in Prometheus' text format.

        Args:
            tasks: of the event loop now.
        """
        self._tasks = tasks
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the families; called by prometheus-client at each scrape."""
        yield InfoMetricFamily("opennoodl_build", "The running version.", {"version": self.version})
        healthy = self._failure() is None
        yield GaugeMetricFamily("opennoodl_healthy", "Whether the server can do its work: 1 or 0.", int(healthy))
        yield GaugeMetricFamily("opennoodl_open_connections", "WebSocket connections open now.", self.open_connections)
        yield GaugeMetricFamily("opennoodl_tasks", "Tasks of the event loop now.", self._tasks)
        refused = self._refusals.counts
        handshakes = Counter({"accepted": self.total_connections} | {code: refused[code] for code in HANDSHAKES})
        yield counters("opennoodl_handshakes", "WebSocket handshakes by outcome.", "outcome", handshakes)
        yield counters("opennoodl_refusals", "Clients that were refused, by code.", "code", refused)
        if self.errors:
            yield counters("opennoodl_errors", "Errors that clients were sent, by code.", "code", self.errors)
        yield counters("opennoodl_closes", "Ended connections by close code.", "code", self.closes)
        messages = CounterMetricFamily(
            "opennoodl_messages", "Messages by direction and type.", labels=("direction", "type")
        )
        for direction, counts in (("in", self.received), ("out", self.sent)):
            for kind, count in counts.items():
                messages.add_metric((direction, kind), count)
        yield messages
        yield self.message_sizes.family("opennoodl_message_size_bytes", "Sizes of received messages.")
        yield self.handling.family("opennoodl_handling_seconds", "Time spent on one received message.")
        yield self.lag.family("opennoodl_event_loop_lag_seconds", "How late the event loop was, once a second.")
        yield counters("opennoodl_rate_limited", "Messages over a rate, by limit.", "limit", self.rate_limited)
        yield counters("opennoodl_tokens", "Tokens that were shown, by what became of them.", "outcome", self.tokens)
        yield from self._own()


def counters(name: str, help_: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    """Return `counts` as one counter family with a single label."""
    family = CounterMetricFamily(name, help_, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
