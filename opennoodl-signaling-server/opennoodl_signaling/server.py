"""The server without `REDIS_URL`: connects the edge with rooms, topics and users in the memory of this process."""

from __future__ import annotations

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
from .signaling import Signaling, SignalingHandler
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

    def handler(self, connection: Connection) -> LocalHandler:
        """Create the client of a new connection, and what handles its messages."""
        return LocalHandler(self, connection, Client(connection, rate_limit_key(connection.address)))

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


class LocalHandler(SignalingHandler):
    """Handles the messages of one client, in the rooms and topics of this process."""

    __slots__ = ()
    app: LocalSignaling

    def new_topics(self, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""
        return self.app.topics.new_topics(self.client, names)

    def act(self, incoming: Incoming, message: bytes) -> None:
        """Carry out a message."""
        app, client = self.app, self.client
        match incoming:
            case Signal():
                target, signal = app.rooms.signal(client, incoming)
                if target is not None:
                    app.effects.relay((target,), encode(signal), "signal")
            case Publish(topic=topic):
                receivers, payload = app.topics.publish(client, topic, message)
                app.effects.relay(receivers, payload, "publish")
            case Ping():
                app.send((self.connection,), Pong())
                app.effects.perform(app.topics.close_if_free(client))
            case Join():
                started = perf_counter()
                app.effects.perform(app.rooms.join(client, incoming), message, started)
            case Leave():
                app.effects.perform(app.rooms.leave(client, incoming))
            case Invite():
                app.effects.perform(app.users.invite(client, incoming, time()))
            case Register():
                app.effects.perform(app.users.register(client, incoming))
            case AskIceServers():
                app.send((self.connection,), app.ice.answer(client.user_id, time()))
            case Metadata():
                app.effects.perform(app.rooms.update(client, incoming))
            case Session():
                app.effects.perform(app.rooms.change_session(client, incoming))
            case Subscribe(topics=names):
                app.topics.subscribe(client, names)
            case Unsubscribe(topics=names):
                app.effects.perform(app.topics.unsubscribe(client, names))
            case _:
                assert_never(incoming)

    def close(self, *, lost: bool) -> None:
        """Remove the client and tell the others, or keep its place if its connection was lost and it can resume."""
        app, client = self.app, self.client
        if app.draining:  # all clients are closed; a `peer-left` would make them end their WebRTC connections
            app.topics.forget(client)
            app.rooms.forget(client)
        else:
            app.effects.perform(app.topics.forget(client))
            app.effects.perform(app.rooms.lose(client) if lost else app.rooms.forget(client))

    def ping_payload(self) -> bytes:
        """Return the payload for a ping. Its pong shows which messages the peer has received."""
        resumption = self.client.resumption
        return b"" if resumption is None else resumption.mark()

    def pong(self, payload: bytes) -> None:
        """Drop the messages that a pong acknowledges."""
        if self.client.resumption is not None:
            self.client.resumption.confirm(payload)


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
