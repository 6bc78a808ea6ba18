"""The server: hands messages to the domain, if their sender may send them."""

from collections.abc import Iterable
from functools import partial
from time import perf_counter, time
from typing import Any, assert_never

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from . import __version__
from .edge.admission.client_address import rate_limit_key
from .edge.auth.credential import credential
from .edge.auth.identity import Identity
from .edge.errors import BadMessage
from .edge.http.request import HttpRequest
from .edge.json_application import JsonApplication
from .edge.messages import encode, request_id
from .edge.metrics import counters
from .edge.service import Service
from .edge.websocket.connection import Connection
from .effects import Effects
from .ice import Ice
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
    decode,
)
from .rooms.model import Client
from .rooms.rooms import REPLACED, Rooms
from .session_info import Page, SessionInfoPage
from .settings import Settings
from .users import Users
from .y_webrtc import Topics


class Signaling(JsonApplication[Incoming]):
    """Both dialects of signaling on one socket."""

    title = "OpenNoodl signaling server"
    pages = (*JsonApplication.pages, "/session/<room>/info")
    about = (
        "It helps editors find each other for WebRTC; no project data passes through it.\n"
        "Connect an editor, or y-webrtc's `signaling` option, to this address as ws:// or wss://."
    )

    close_codes = frozenset({REPLACED})
    decode = decode

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, __version__, settings.max_message_size)
        max_absent = settings.max_connections if settings.resume_grace else None
        self.users = Users(settings.invites_per_hour)
        self.rooms = Rooms(settings.max_room_size, self.users, max_absent, proven=self.auth.required)
        self.topics = Topics(settings.max_room_size, settings.max_topics)
        self.ice = Ice(settings)
        self.effects = Effects(self.rooms, self.ice, settings.resume_grace / 1000, self.metrics.sent)
        self._session_info = SessionInfoPage(self.rooms, self.auth, self.metrics.rate_limited)

    async def stop(self) -> None:
        """Let the absent peers go: no client can come back to a server that stops."""
        self.effects.give_up_all()

    async def open(self, connection: Connection) -> None:
        """Give the connection its place in the domain."""
        connection.session = Client(connection, rate_limit_key(connection.address))
        await super().open(connection)

    def close(self, connection: Connection) -> None:
        """Tell the others that the client is gone, and forget it; one that can resume is waited for if it was lost."""
        client: Client = connection.session
        if self.draining:  # everybody is closed: a peer that is told of departures would drop its live calls
            self.topics.forget(client)
            self.rooms.forget(client)
        else:
            self.effects.perform(self.topics.forget(client))
            self.effects.perform(self.rooms.lose(client) if connection.was_lost else self.rooms.forget(client))
        # The two know each other: only a full garbage collection, which holds everybody, would find them.
        connection.session = None

    def ping_payload(self, connection: Connection) -> bytes:
        """Return what says, when it comes back, that a peer has what it was told."""
        client: Client | None = connection.session
        return client.resumption.mark() if client is not None and client.resumption is not None else b""

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Forget what a peer has received by now."""
        client: Client = connection.session
        if client.resumption is not None:
            client.resumption.reached(payload)

    async def page(self, request: HttpRequest) -> Page | None:
        """Answer ``/session/<room>/info``."""
        token = credential(request.head) if self.auth.required else None
        return await self._session_info.answer(request.path, request.address, token)

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

    def dispatch(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
        """Hand one message to the part of the domain that it is for, if its sender may send it."""
        if self.auth.required:
            match incoming:
                case Join() | Register():
                    connection.work(partial(self._prove, connection, incoming, message))
                    return
                case Publish(topic=topic):
                    if topic not in connection.session.topics:
                        _permit(connection.identity, topic)
                case Subscribe(topics=names):
                    # Every name is compared with all patterns of the token, so their number is bounded first.
                    for name in self.topics.wanted(connection.session, names):
                        _permit(connection.identity, name)
                case Invite(room_id=room):
                    if connection.identity is not None and not connection.identity.allows(room):
                        raise BadMessage("forbidden", "Your token is not for this room, so you cannot invite into it.")
                case AskIceServers():
                    identity = connection.identity
                    if identity is not None and (identity.access != "write" or not identity.rooms):
                        raise BadMessage(
                            "forbidden", "Your token allows no room for writing, so you get no ICE servers."
                        )
        self._act(connection, incoming, message)

    async def _prove(self, connection: Connection, incoming: Join | Register, message: bytes) -> None:
        """Do what needs a proven user."""
        client: Client = connection.session
        try:
            identity = await self.prove(connection, incoming.token, incoming.user_id)
            # A new token may say less than the last one; so it must say all that the connection makes use of.
            for name in _entered(client, incoming):
                _permit(identity, name)
            try:
                self._act(connection, incoming, message)
            finally:
                # Whoever is not let into another room stays in its own, for which this one may not be good.
                if all(map(identity.allows, _entered(client))):
                    connection.set_identity(identity)
        except BadMessage as bad:
            bad.request_id = request_id(message)
            self.refuse(connection, bad)

    def _act(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
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
                self.effects.perform(self.topics.look_again(client))
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
                self.effects.perform(self.rooms.present(client, incoming))
            case Subscribe(topics=names):
                self.topics.subscribe(client, names)
            case Unsubscribe(topics=names):
                self.effects.perform(self.topics.unsubscribe(client, names))
            case _:
                assert_never(incoming)

    def refuse(self, connection: Connection, bad: BadMessage) -> None:
        """Tell the sender of a bad message, and count it."""
        self.effects.refuse(connection, bad)

    def metric_families(self) -> Iterable[Metric]:
        """Return what only this server counts."""
        peers = sum(len(room.peers) for room in self.rooms.rooms.values())
        yield GaugeMetricFamily("opennoodl_signaling_rooms", "Rooms of the editor now.", len(self.rooms.rooms))
        yield GaugeMetricFamily("opennoodl_signaling_peers", "Peers in rooms now, absent ones too.", peers)
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
    """Return the server, not started yet."""
    return Service(Signaling(settings), settings.port)


def _permit(identity: Identity | None, name: str) -> None:
    """See whether somebody may enter a room or topic; what they tell the others there cannot be taken back.

    Raises:
        BadMessage: they may not.
    """
    if identity is None:
        raise BadMessage("unauthorized", "Authenticate first: connect with a token, or send `register` with `token`.")
    if not identity.allows(name):
        raise BadMessage("forbidden", "Your token is not for this room.")
    if identity.access != "write":
        raise BadMessage(
            "forbidden", "Your token allows only reading, which peers cannot enforce: use the sync server."
        )


def _entered(client: Client, incoming: Join | Register | None = None) -> set[str]:
    """Return the rooms and topics in which a client is, after `incoming` if that is done."""
    if isinstance(incoming, Join):
        return client.topics | {incoming.room}
    return client.topics | ({client.room.name} if client.room is not None else set())
