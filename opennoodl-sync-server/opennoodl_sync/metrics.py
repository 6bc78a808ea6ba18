"""The metrics that only this server has."""

from __future__ import annotations

from collections import Counter
from shutil import disk_usage
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from .edge.metrics import counters
from .storage.leveldb.store import LevelDBStore

if TYPE_CHECKING:
    from .cluster.peers import Peers
    from .memory.budget import MemoryBudget
    from .rooms.registry import Rooms
    from .sessions import Sessions
    from .storage.interface import Store
    from .versions.keeper import VersionKeeper
    from .webhook import Webhook


class Sources(NamedTuple):
    """The parts of the server that count.

    Attributes:
        store: where documents are kept.
        persist_dir: the directory of the documents, if they are in one.
        budget: counts memory.
        rooms: the documents in memory.
        sessions: their clients.
        peers: the other instances.
        versions: makes versions, if anything does.
        webhook: posts changes, if anything does.
    """

    store: Store
    persist_dir: str
    budget: MemoryBudget
    rooms: Rooms
    sessions: Sessions
    peers: Peers
    versions: VersionKeeper | None
    webhook: Webhook | None


def metric_families(sources: Sources) -> list[Metric]:
    """Return the metrics that only this server has."""
    posts = sources.webhook.posts if sources.webhook is not None else Counter[str]()
    versions = sources.versions
    counts = sources.store.counts
    return [
        counters("opennoodl_sync_webhook_posts", "Webhook posts by outcome.", "outcome", posts),
        counters(
            "opennoodl_sync_versions",
            "Versions to be made by outcome.",
            "outcome",
            Counter[str]() if versions is None else versions.outcomes,
        ),
        GaugeMetricFamily(
            "opennoodl_sync_version_bytes", "Bytes of all versions.", 0 if versions is None else versions.size
        ),
        GaugeMetricFamily("opennoodl_sync_documents", "Documents in memory now.", len(sources.rooms.rooms)),
        GaugeMetricFamily(
            "opennoodl_sync_document_bytes", "Bytes of memory that documents take.", sources.budget.documents
        ),
        GaugeMetricFamily("opennoodl_sync_max_memory_bytes", "Their limit, MAX_MEMORY.", sources.budget.limit),
        GaugeMetricFamily("opennoodl_sync_unread_bytes", "Bytes that wait for all clients.", sources.budget.output),
        sources.sessions.store_seconds.family("opennoodl_sync_store_seconds", "Time to store the changes of a turn."),
        CounterMetricFamily(
            "opennoodl_sync_store_errors", "Turns whose changes could not be stored.", sources.sessions.store_errors
        ),
        CounterMetricFamily(
            "opennoodl_sync_database_reconnects", "Connections to PostgreSQL opened again.", counts.reconnects
        ),
        GaugeMetricFamily(
            "opennoodl_sync_lease_age_seconds", "Time since this instance's lease was renewed.", counts.lease_age
        ),
        GaugeMetricFamily("opennoodl_sync_owned_documents", "Documents that this instance owns.", counts.owned),
        GaugeMetricFamily(
            "opennoodl_sync_passed_on_connections",
            "Connections that are passed on to other instances now.",
            len(sources.peers.relays),
        ),
        counters(
            "opennoodl_sync_passed_on", "Connections to be passed on by outcome.", "outcome", sources.peers.outcomes
        ),
        CounterMetricFamily("opennoodl_sync_updates", "Updates received from clients.", sources.sessions.updates),
        *_free_space(sources),
    ]


def _free_space(sources: Sources) -> list[Metric]:
    """Return the free bytes of the disk where documents are; nothing if they are not on a disk."""
    if not isinstance(sources.store, LevelDBStore):
        return []
    free = disk_usage(sources.persist_dir).free
    return [GaugeMetricFamily("opennoodl_data_free_bytes", "Free bytes on the disk of the data.", free)]
