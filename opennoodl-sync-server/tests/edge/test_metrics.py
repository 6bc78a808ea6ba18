"""Metrics have the documented names, and labels from closed sets."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from .certificates import Files
from .harness import Echo, application, flow_control, metrics, opened, refusals, service


def samples(counted: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the value of every sample by name and label values, as a Prometheus server reads it."""
    families = text_string_to_metric_families(counted.text().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def counted() -> Any:
    """Return metrics without a server."""
    labels = metrics.Labels(received=("join", "ping"), sent=("joined",), errors=("bad",), close_codes=frozenset({4409}))
    return metrics.Metrics("1.2.3", list, labels, refusals.Refusals({}))


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


def test_close_code_of_one_server(counted: Any) -> None:
    """A code that only this server sends is counted under its number."""
    counted.closed(4409)
    assert samples(counted)["opennoodl_closes_total", ("4409",)] == 1


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
        lambda: [GaugeMetricFamily("opennoodl_own", "Its own.", next(values))],
        metrics.Labels(),
        refusals.Refusals({}),
    )
    assert [samples(counted)["opennoodl_own", ()] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("trouble", "draining", "expected"),
    [
        (None, False, (1, 1)),
        (application.Trouble("The disk is full.", outside=False), False, (0, 0)),
        (application.Trouble("The database does not answer.", outside=True), False, (1, 0)),
        (None, True, (0, 0)),
    ],
    ids=["healthy", "failing", "degraded", "draining"],
)
def test_healthy_and_ready_are_what_the_pages_answer(trouble: Any, draining: bool, expected: tuple[int, int]) -> None:
    """The gauges are 1 where /health and /ready answer 200, as test_routes.py has them."""
    app = Echo()
    app.trouble_now, app.draining = trouble, draining
    scraped = samples(app.metrics)
    assert (scraped["opennoodl_healthy", ()], scraped["opennoodl_ready", ()]) == expected


def test_settings_that_are_numbers_are_shown() -> None:
    """Limits stand beside their use; truth values and text are no gauges."""
    scraped = samples(Echo(max_connections=7, require_wss=False).metrics)
    assert scraped["opennoodl_setting", ("MAX_CONNECTIONS",)] == 7
    assert ("opennoodl_setting", ("REQUIRE_WSS",)) not in scraped
    assert ("opennoodl_setting", ("HOST",)) not in scraped


async def test_paused_and_slow_clients_are_counted() -> None:
    """Clients that are not read from are shown by each reason, and those that read too slowly."""
    app = Echo(slow_client_buffer=1)
    before = samples(app.metrics)
    assert (before["opennoodl_paused_clients", ("rate",)], before["opennoodl_slow_clients", ()]) == (0, 0)
    client = opened(app)
    app.registry.add(client)
    client.transport.get_write_buffer_size.return_value = 2
    client.attach(await app.open(client))
    client.paused = True
    client.check_slow()
    client.pause_reading(flow_control.EdgePause.RATE)
    client.pause_reading(flow_control.EdgePause.WORK)
    after = samples(app.metrics)
    shown = {labels[0]: number for (name, labels), number in after.items() if name == "opennoodl_paused_clients"}
    assert shown == {"opening": 0, "rate": 1, "work": 1, "turn": 0, "memory": 0}
    assert after["opennoodl_slow_clients", ()] == 1


def test_end_of_the_certificate_is_shown(files: Files) -> None:
    """The end of the certificate in TLS_CERT is shown; without one there is no such metric."""
    with_one, without = Echo(**files.settings), Echo()
    for app in (with_one, without):
        service.Service(app, 0)
    end = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    assert samples(with_one.metrics)["opennoodl_certificate_end_timestamp_seconds", ()] == end.timestamp()
    assert ("opennoodl_certificate_end_timestamp_seconds", ()) not in samples(without.metrics)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("handshakes", ("at-capacity",)),
        ("tokens", ("unavailable",)),
        ("closes", ("1000",)),
        ("closes", ("4409",)),
        ("closes", ("other",)),
        ("errors", ("bad",)),
        ("messages", ("in", "join")),
        ("messages", ("out", "joined")),
        ("rate_limited", ("bytes",)),
        ("refusals", ("origin",)),
    ],
)
def test_counters_begin_with_zero(counted: Any, name: str, labels: tuple[str, ...]) -> None:
    """A counter is there before its first event, so that Prometheus sees that event as an increase."""
    assert samples(counted)[f"opennoodl_{name}_total", labels] == 0


def test_clients_by_the_size_of_their_room() -> None:
    """Each client is counted once, with the smallest bound that its room does not exceed."""
    family = metrics.by_room_size("opennoodl_peers", "Peers.", [1, 1, 2, 3, 5, 101, 300])
    counts = {sample.labels["size"]: sample.value for sample in family.samples}
    assert counts == {"1": 2, "2": 2, "5": 8, "10": 0, "20": 0, "50": 0, "100": 0, "more": 401}
