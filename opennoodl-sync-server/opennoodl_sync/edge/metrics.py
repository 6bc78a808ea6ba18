"""Metrics: plain integers on the message path, and Prometheus text when they are scraped.

All three servers use the same names for the metrics here, so one dashboard shows all of them. The values of labels are
closed sets. A close code outside of its set counts as ``other``.

prometheus-client writes the text. Its own counters and histograms are not used, since they take a lock for each event.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .limits import SETTING_OF
from .refusals import HANDSHAKES, Refusals

SIZES = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
SECONDS = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
ROOM_SIZES = (1, 2, 5, 10, 20, 50, 100)
"""Upper bounds of the label `size`, in clients of a room."""
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1013})
"""Close codes of RFC 6455 that a client or the edge may send."""

TOKENS = ("accepted", "refused", "unavailable")
"""Outcomes of token checks."""


class Counts(Counter[str]):
    """Counts by the value of a label.

    All values begin at 0, so that Prometheus sees the first event as an increase.

    Args:
        values: all values of the label.
    """

    def __init__(self, values: Iterable[str]) -> None:
        super().__init__(dict.fromkeys(values, 0))

    def __missing__(self, value: str) -> int:
        """Return 0 for a value that is not declared. In the tests this raises an error."""
        return 0


class Labels(NamedTuple):
    """The values of labels that differ between the servers.

    Attributes:
        received: types of messages from clients.
        sent: types of messages to clients.
        errors: codes of the message `error`.
        limits: rate limits of this server, in addition to those of each connection.
        close_codes: close codes of this server, in addition to `CLOSE_CODES`.
    """

    received: Iterable[str] = ()
    sent: Iterable[str] = ()
    errors: Iterable[str] = ()
    limits: Iterable[str] = ()
    close_codes: frozenset[int] = frozenset()


class Histogram:
    """Counts of observations by upper bound, and the sum of the observations.

    Args:
        bounds: the upper bounds, in ascending order.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count an observation, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def family(self, name: str, help_: str) -> Metric:
        """Return the histogram in Prometheus' form: cumulative buckets, sum and count."""
        cumulated, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            cumulated += count
            buckets.append((bound, cumulated))
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self.total)


class Metrics(Collector):
    """The metrics of one server: those of the edge, and those that the server adds.

    Args:
        version: the version of the package.
        state: returns further metrics at each scrape.
        labels: the values of labels that differ between the servers.
        refusals: has the counts of refused clients.
    """

    def __init__(
        self,
        version: str,
        state: Callable[[], Iterable[Metric]],
        labels: Labels,
        refusals: Refusals,
    ) -> None:
        self.version = version
        self.open_connections = 0
        self._tasks = 0
        self.total_connections = 0
        self.errors = Counts(labels.errors)
        self._refusals = refusals
        self._close_codes = CLOSE_CODES | labels.close_codes
        self.closes = Counts([*map(str, sorted(self._close_codes)), "other"])
        self.received = Counts(labels.received)
        self.sent = Counts(labels.sent)
        self.message_sizes = Histogram(SIZES)
        self.handling = Histogram(SECONDS)
        self.lag = Histogram(SECONDS)
        self.rate_limited = Counts([*SETTING_OF, *labels.limits])
        self.tokens = Counts(TOKENS)
        self._state = state
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def opened(self) -> None:
        """Count a connection whose handshake is finished."""
        self.open_connections += 1
        self.total_connections += 1

    def closed(self, code: int) -> None:
        """Count the end of a connection by its close code; 1006 if it had no close frame."""
        self.open_connections -= 1
        self.closes[str(code) if code in self._close_codes else "other"] += 1

    def text(self, tasks: int = 0) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            tasks: the number of tasks of the event loop.
        """
        self._tasks = tasks
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the families; called by prometheus-client at each scrape."""
        yield InfoMetricFamily("opennoodl_build", "The running version.", {"version": self.version})
        yield GaugeMetricFamily("opennoodl_open_connections", "WebSocket connections open now.", self.open_connections)
        yield GaugeMetricFamily("opennoodl_tasks", "Tasks of the event loop now.", self._tasks)
        refused = self._refusals.counts
        handshakes = {"accepted": self.total_connections} | {code: refused[code] for code in HANDSHAKES}
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
        yield from self._state()


def counters(name: str, help_: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    """Return `counts` as one counter family with a single label."""
    family = CounterMetricFamily(name, help_, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """Return `values` as one gauge family with a single label."""
    family = GaugeMetricFamily(name, help_, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def by_room_size(name: str, help_: str, rooms: Iterable[int]) -> GaugeMetricFamily:
    """Return the number of clients by the size of their room.

    Args:
        name: the name of the family.
        help_: the help text of the family.
        rooms: the number of clients of each room.
    """
    sizes = dict.fromkeys([*map(str, ROOM_SIZES), "more"], 0)
    names = list(sizes)
    for clients in rooms:
        sizes[names[bisect_left(ROOM_SIZES, clients)]] += clients
    return gauges(name, help_, "size", sizes)
