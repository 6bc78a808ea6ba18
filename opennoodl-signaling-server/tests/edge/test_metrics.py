"""Metrics have the documented names, and labels from closed sets."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from .harness import metrics, refusals


def samples(counted: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the value of every sample by name and label values, as a Prometheus server reads it."""
    families = text_string_to_metric_families(counted.text().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def counted() -> Any:
    """Return metrics without a server."""
    return metrics.Metrics("1.2.3", lambda: None, list, refusals=refusals.Refusals({}))


def test_every_documented_metric_exists(counted: Any) -> None:
    """Every documented name and label is there."""
    counted.closed(1000)
    counted.received["ping"] += 1
    counted.rate_limited["messages"] += 1
    families = text_string_to_metric_families(counted.text().decode())
    labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    expected: dict[str, set[str]] = {
        "opennoodl_build_info": {"version"},
        "opennoodl_open_connections": set(),
        "opennoodl_tasks": set(),
        "opennoodl_handshakes_total": {"outcome"},
        "opennoodl_closes_total": {"code"},
        "opennoodl_messages_total": {"direction", "type"},
        "opennoodl_message_size_bytes_bucket": {"le"},
        "opennoodl_handling_seconds_bucket": {"le"},
        "opennoodl_rate_limited_total": {"limit"},
    }
    assert {name: labels[name] for name in expected} == expected


def test_process_metrics_exist(counted: Any) -> None:
    """The process metrics of prometheus-client are exported."""
    assert ("process_resident_memory_bytes", ()) in samples(counted)


def test_counters_are_scraped(counted: Any) -> None:
    """Counted events are in the scraped text."""
    for _ in range(3):
        counted.errors["bad"] += 1
    counted.received["join"] += 2
    counted.sent["joined"] += 1
    scraped = samples(counted)
    assert scraped["opennoodl_errors_total", ("bad",)] == 3
    assert scraped["opennoodl_messages_total", ("in", "join")] == 2
    assert scraped["opennoodl_messages_total", ("out", "joined")] == 1
    assert scraped["opennoodl_build_info", ("1.2.3",)] == 1


def test_histogram_buckets_are_cumulative(counted: Any) -> None:
    """A histogram's buckets are cumulative, and a value on a bound is in its bucket."""
    for size in (1, 64, 65, 1 << 30):
        counted.message_sizes.observe(size)
    scraped = samples(counted)
    name = "opennoodl_message_size_bytes"
    assert [scraped[f"{name}_bucket", (bound,)] for bound in ("64", "256", "16777216", "+Inf")] == [2, 3, 3, 4]
    assert scraped[f"{name}_count", ()] == 4
    assert scraped[f"{name}_sum", ()] == 1 + 64 + 65 + (1 << 30)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1006, 1008, 1009, 1011, 1013])
def test_known_close_code_is_counted(counted: Any, code: int) -> None:
    """A documented close code is counted under its number, and takes the connection off the gauge."""
    counted.open_connections = 5
    counted.closed(code)
    assert samples(counted)["opennoodl_closes_total", (str(code),)] == 1
    assert samples(counted)["opennoodl_open_connections", ()] == 4


def test_close_code_of_one_server() -> None:
    """A code that only one server sends is counted under its number there, and as other elsewhere."""
    for codes, label in ((frozenset({4409}), "4409"), (frozenset[int](), "other")):
        counted = metrics.Metrics("1.2.3", lambda: None, list, codes, refusals=refusals.Refusals({}))
        counted.closed(4409)
        assert samples(counted)["opennoodl_closes_total", (label,)] == 1


@pytest.mark.parametrize("code", [3000, 4000, 4999])
def test_unknown_close_code_is_counted_as_other(counted: Any, code: int) -> None:
    """A code that a client made up is counted as other: clients must not be able to grow the set of labels."""
    counted.closed(code)
    assert samples(counted)["opennoodl_closes_total", ("other",)] == 1
    assert ("opennoodl_closes_total", (str(code),)) not in samples(counted)


def test_families_of_the_server_are_asked_for_at_each_scrape() -> None:
    """A server's own families are asked for at every scrape."""
    values = iter((1.0, 2.0))
    counted = metrics.Metrics(
        "1.2.3",
        lambda: None,
        lambda: [GaugeMetricFamily("opennoodl_own", "Its own.", next(values))],
        refusals=refusals.Refusals({}),
    )
    assert [samples(counted)["opennoodl_own", ()] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(("failure", "expected"), [(None, 1), ("The disk is full.", 0)])
def test_unhealthy_server_shows_in_the_next_scrape(failure: str | None, expected: int) -> None:
    """A server that cannot do its work says so at the next scrape."""
    counted = metrics.Metrics("1.2.3", lambda: failure, list, refusals=refusals.Refusals({}))
    assert samples(counted)["opennoodl_healthy", ()] == expected


@pytest.mark.parametrize(
    ("name", "outcome"), [("opennoodl_handshakes_total", "at-capacity"), ("opennoodl_tokens_total", "unavailable")]
)
def test_counters_begin_with_zero(name: str, outcome: str) -> None:
    """A counter is there before its first event, so that Prometheus sees that event as an increase."""
    counted = metrics.Metrics("1.2.3", lambda: None, list, refusals=refusals.Refusals({}))
    assert samples(counted)[name, (outcome,)] == 0
