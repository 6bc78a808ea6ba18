"""The page docs/cluster.md says what the code does."""

from __future__ import annotations

from ..package.documents import code, page, rows, section
from .conftest import Instances


async def test_metrics_of_the_cluster_are_documented(instances: Instances) -> None:
    """Every metric that `REDIS_URL` adds stands in the table, and each of docs/metrics.md is there too, except one."""
    (server,) = await instances(1)
    documented = {
        next(iter(code(name))): code(labels)
        for text in (section(page("docs/cluster.md"), "Metrics"), page("docs/metrics.md"))
        for name, labels, *_ in rows(text)
    }
    families = {}
    for family in server.app.metrics.collect():
        families[family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")] = family
    assert set(documented) - set(families) == {"opennoodl_signaling_unconfirmed_bytes"}
    assert set(families) <= set(documented)
    for name, family in families.items():
        for sample in family.samples:
            assert set(sample.labels) <= documented[name], name
