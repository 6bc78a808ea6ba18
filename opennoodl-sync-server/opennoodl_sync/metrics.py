"""The metrics that only this server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from .edge.metrics import Counts, by_room_size, counters
from .versions.scheduler import OUTCOMES as VERSION_OUTCOMES
from .webhook import OUTCOMES as WEBHOOK_OUTCOMES

if TYPE_CHECKING:
    from .cluster.peers import Peers
    from .memory.budget import MemoryBudget
    from .rooms.registry import Rooms
    from .sessions import Sessions
    from .storage.interface import Store
    from .versions.scheduler import VersionScheduler
    from .webhook import Webhook


class Sources(NamedTuple):
    """The parts of the server that count.

    Attributes:
        store: where documents are kept.
        budget: counts memory.
        rooms: the documents in memory.
        sessions: their clients.
        peers: the other instances.
        versions: makes versions, if anything does.
        webhook: posts changes, if anything does.
    """

    store: Store
    budget: MemoryBudget
    rooms: Rooms
    sessions: Sessions
    peers: Peers
    versions: VersionScheduler | None
    webhook: Webhook | None


def metric_families(sources: Sources) -> list[Metric]:
    """Return the metrics that only this server has."""
    webhook, versions = sources.webhook, sources.versions
    posts = Counts(WEBHOOK_OUTCOMES) if webhook is None else webhook.posts
    sizes = (len(room.clients) for room in sources.rooms.rooms.values())
    counts, flusher = sources.store.counts, sources.sessions.flusher
    return [
        counters("opennoodl_sync_webhook_posts", "Webhook posts by outcome.", "outcome", posts),
        GaugeMetricFamily(
            "opennoodl_sync_webhook_queued",
            "Documents with a change that is not posted yet.",
            0 if webhook is None else webhook.queued,
        ),
        GaugeMetricFamily(
            "opennoodl_sync_webhook_oldest_seconds",
            "How long a change has waited at most.",
            0 if webhook is None else webhook.oldest(),
        ),
        by_room_size("opennoodl_sync_clients_by_room_size", "Clients in rooms by the size of the room.", sizes),
        counters(
            "opennoodl_sync_versions",
            "Versions to be made by outcome.",
            "outcome",
            Counts(VERSION_OUTCOMES) if versions is None else versions.outcomes,
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
        flusher.seconds.family("opennoodl_sync_store_seconds", "Time to store the changes of a turn."),
        CounterMetricFamily("opennoodl_sync_store_errors", "Turns whose changes could not be stored.", flusher.errors),
        GaugeMetricFamily(
            "opennoodl_sync_store_oldest_seconds",
            "How long the changes that are being stored have waited.",
            flusher.waits,
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
    ]
