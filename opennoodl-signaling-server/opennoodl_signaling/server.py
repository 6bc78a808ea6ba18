"""The server without `REDIS_URL`: connects the edge with rooms, topics and users in the memory of this process."""

from collections.abc import Iterable
from time import perf_counter, time
from typing import Any, assert_never

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from .edge.admission.address_limits import rate_limit_key
from .edge.auth.credential import credential
from .edge.errors import BadMessage
from .edge.http.request import HttpRequest
from .edge.messages import encode
from .edge.metrics import by_room_size, counters
from .edge.peer import Receiver
from .edge.service import Service
from .edge.settings import SettingError
from .edge.websocket.connection import Connection
from .effects import Effects
from .messages import (
    AskIceServers,
    Incoming,
    Invite,
    Join,
    Leave,
    Metadata,
    Ping,
    Pong,
    Publish,
    Register,
    Session,
    Signal,
    Subscribe,
    Unsubscribe,
)
from .rooms.model import Client, Room
from .rooms.rooms import Rooms
from .session_page import Page, SessionInfoPage
from .settings import Settings
from .signaling import Signaling
from .users import Users
from .y_webrtc import Topics


class LocalSignaling(Signaling):
    """Rooms, topics and users of one process.

    Args:
        settings: the settings of the server.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        max_absent = settings.max_connections if settings.resume_grace else None
        self.users = Users(settings.invites_per_hour)
        self.rooms = Rooms(settings.max_room_size, self.users, max_absent, proven=self.auth.required)
        self.topics = Topics(settings.max_room_size, settings.max_topics)
        self.effects = Effects(self.rooms, self.ice, settings.resume_grace / 1000, self.metrics.sent)
        self._session_page = SessionInfoPage(self._find, self.rooms.capacity, self.auth, self.metrics.rate_limited)

    async def stop(self) -> None:
        """End all absences, since no client can resume at a server that stops."""
        self.effects.give_up_all()

    async def open(self, connection: Connection) -> None:
        """Create the client of a new connection."""
        connection.session = Client(connection, rate_limit_key(connection.address))
        await super().open(connection)

    def close(self, connection: Connection) -> None:
        """Remove the client and tell the others, or keep its place if its connection was lost and it can resume."""
        client: Client = connection.session
        if self.draining:  # all clients are closed; a `peer-left` would make them end their WebRTC connections
            self.topics.forget(client)
            self.rooms.forget(client)
        else:
            self.effects.perform(self.topics.forget(client))
            self.effects.perform(self.rooms.lose(client) if connection.was_lost else self.rooms.forget(client))
        # Breaks the reference cycle: a full garbage collection would pause the server.
        connection.session = None

    def ping_payload(self, connection: Connection) -> bytes:
        """Return the payload for a ping. Its pong shows which messages the peer has received."""
        client: Client | None = connection.session
        return client.resumption.mark() if client is not None and client.resumption is not None else b""

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Drop the messages that a pong acknowledges."""
        client: Client = connection.session
        if client.resumption is not None:
            client.resumption.confirm(payload)

    async def page(self, request: HttpRequest) -> Page | None:
        """Return the response to ``/session/<room>/info``; None for another path."""
        token = credential(request.head) if self.auth.required else None
        return await self._session_page.answer(request.path, request.address, token)

    async def _find(self, name: str) -> Room | None:
        return self.rooms.rooms.get(name)

    def health(self) -> dict[str, Any]:
        """Return the counts that ``/health`` shows."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "totalConnections": self.metrics.total_connections,
                "activeRooms": len(self.rooms.rooms) + len(self.topics.topics),
                "messagesRelayed": self.effects.relayed,
            }
        }

    def new_topics(self, client: Client, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""
        return self.topics.new_topics(client, names)

    def act(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
        """Carry out a message."""
        client: Client = connection.session
        match incoming:
            case Signal():
                target, signal = self.rooms.signal(client, incoming)
                if target is not None:
                    self.effects.relay((target,), encode(signal), "signal")
            case Publish(topic=topic):
                receivers, payload = self.topics.publish(client, topic, message)
                self.effects.relay(receivers, payload, "publish")
            case Ping():
                self.send((connection,), Pong())
                self.effects.perform(self.topics.close_if_free(client))
            case Join():
                started = perf_counter()
                self.effects.perform(self.rooms.join(client, incoming), message, started)
            case Leave():
                self.effects.perform(self.rooms.leave(client, incoming))
            case Invite():
                self.effects.perform(self.users.invite(client, incoming, time()))
            case Register():
                self.effects.perform(self.users.register(client, incoming))
            case AskIceServers():
                self.send((connection,), self.ice.answer(client.user_id, time()))
            case Metadata():
                self.effects.perform(self.rooms.update(client, incoming))
            case Session():
                self.effects.perform(self.rooms.change_session(client, incoming))
            case Subscribe(topics=names):
                self.topics.subscribe(client, names)
            case Unsubscribe(topics=names):
                self.effects.perform(self.topics.unsubscribe(client, names))
            case _:
                assert_never(incoming)

    def refuse(self, receiver: Receiver, bad: BadMessage) -> None:
        """Send the error about a message to its sender, and count it."""
        self.effects.refuse(receiver, bad)

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics that only this server has."""
        sizes = [len(room.peers) for room in self.rooms.rooms.values()]
        yield GaugeMetricFamily("opennoodl_signaling_rooms", "Rooms of the editor now.", len(self.rooms.rooms))
        yield GaugeMetricFamily("opennoodl_signaling_peers", "Peers in rooms now, absent ones too.", sum(sizes))
        yield by_room_size("opennoodl_signaling_peers_by_room_size", "Peers in rooms by the size of the room.", sizes)
        absent_peers = self.rooms.absent_peers
        yield GaugeMetricFamily(
            "opennoodl_signaling_absent_peers", "Peers in rooms that are absent.", absent_peers.count
        )
        yield GaugeMetricFamily(
            "opennoodl_signaling_waiting_bytes", "Bytes that wait for absent peers.", absent_peers.size
        )
        size = self.rooms.logs.size
        yield GaugeMetricFamily("opennoodl_signaling_unconfirmed_bytes", "Bytes kept for peers that count.", size)
        yield counters("opennoodl_signaling_absences", "Ended absences by how they ended.", "end", absent_peers.ends)
        yield counters("opennoodl_signaling_joins", "Answered joins by outcome.", "outcome", self.rooms.joins)
        yield counters("opennoodl_signaling_invites", "Invites by outcome.", "outcome", self.users.invites)
        yield GaugeMetricFamily("opennoodl_signaling_topics", "y-webrtc topics now.", len(self.topics.topics))
        yield from self.effects.metric_families()


def create(settings: Settings) -> Service:
    """Return a server that is not started yet.

    Args:
        settings: the settings of the server.

    Raises:
        SettingError: settings contradict each other, or `REDIS_URL` is set and the package redis is not installed.
    """
    if not settings.redis_url:
        return Service(LocalSignaling(settings), settings.port)
    try:
        from .cluster.server import SharedSignaling
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise SettingError("REDIS_URL needs the package redis: install opennoodl-signaling-server[redis]") from None
    return Service(SharedSignaling(settings), settings.port)
