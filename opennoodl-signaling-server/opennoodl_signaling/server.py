"""The server: wires connections to rooms and topics."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from time import perf_counter, time
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import UNSET
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from websockets.protocol import CLOSED

from . import __version__
from .edge.admission.client_address import rate_limit_key
from .edge.auth.credential import credential
from .edge.auth.identity import AuthError, Identity
from .edge.errors import BadMessage
from .edge.json_application import JsonApplication
from .edge.limits import Quota
from .edge.messages import Error, encode, request_id
from .edge.metrics import Histogram, counters
from .edge.service import Service
from .edge.websocket.connection import Connection
from .edge.websocket.frames import encode_frame
from .ice import Ice
from .messages import (
    AskIceServers,
    Incoming,
    Invite,
    Join,
    Joined,
    Leave,
    Metadata,
    Ping,
    Pong,
    Publish,
    Register,
    Session,
    Signal,
    SignalLost,
    Subscribe,
    Unsubscribe,
    decode,
)
from .rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Room, Send
from .rooms.rooms import REPLACED, PeerNotFound, Rooms
from .settings import Settings
from .users import Users
from .y_webrtc import Topics

CONTEST_TIMEOUT = 2.0
"""Seconds that the holder of a contested peer id has to answer a ping."""
LOOKS_PER_MINUTE = 60
"""Session previews that one address may ask for in a minute."""
JOIN_SECONDS = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Bounds of the times from `join` to `joined`; a contest takes up to `CONTEST_TIMEOUT`."""


class Signaling(JsonApplication[Incoming]):
    """Both dialects of signaling on one socket."""

    title = "OpenNoodl signaling server"
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
        self.relayed = 0
        self._looks = Quota(LOOKS_PER_MINUTE, 60)
        self._draining = False
        self._contests: set[asyncio.Task[None]] = set()
        self._graces: dict[Client, asyncio.TimerHandle] = {}
        self._grace = settings.resume_grace / 1000
        self._join_seconds = Histogram(JOIN_SECONDS)
        self._errors: Counter[str] = Counter()

    def drain(self) -> None:
        """Tell nobody of departures from now on: the server closes everybody, and each would drop its live calls."""
        self._draining = True

    async def stop(self) -> None:
        """Let those go who are absent: nobody can come back to a server that stops."""
        for client, timer in list(self._graces.items()):
            timer.cancel()
            self._give_up(client)

    async def open(self, connection: Connection) -> None:
        """Give the connection its place in the domain."""
        connection.session = Client(connection, rate_limit_key(connection.address))
        await super().open(connection)

    def close(self, connection: Connection) -> None:
        """Tell the others that the client is gone, and forget it; one that can resume is waited for if it was lost."""
        client: Client = connection.session
        if self._draining:
            self.topics.forget(client)
            self.rooms.forget(client)
        else:
            self._perform(self.topics.forget(client))
            self._perform(self.rooms.lose(client) if _lost(connection) else self.rooms.forget(client))
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

    async def page(self, connection: Connection, path: str) -> tuple[HTTPStatus, dict[str, Any]] | None:
        """Answer ``/session/<room>/info``: a look through the door for whoever knows the room's name."""
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "session" or parts[3] != "info":
            return None
        if not self._looks.allow(rate_limit_key(connection.address), time()):
            self.metrics.rate_limited["session-info"] += 1
            return HTTPStatus.TOO_MANY_REQUESTS, {"error": "Too many looks; try again in a minute."}
        name = unquote(parts[2])
        if self.auth.required and (closed := await self._locked(connection, name)):
            return closed
        room = self.rooms.rooms.get(name)
        if room is None:
            return HTTPStatus.NOT_FOUND, {"error": "Nobody is there."}
        return HTTPStatus.OK, self._preview(room)

    async def _locked(self, connection: Connection, room: str) -> tuple[HTTPStatus, dict[str, Any]] | None:
        """Return what somebody is told who may not look into a room, or None."""
        assert connection.request is not None
        token = credential(connection.request)
        if token is None:
            return HTTPStatus.UNAUTHORIZED, {"error": "Bring a token, as a bearer token or as `token` in the query."}
        try:
            identity = await self.auth.identify(token, connection.address)
        except AuthError as error:
            down = error.code == "auth-unavailable"
            return HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.UNAUTHORIZED, {"error": str(error)}
        return None if identity.allows(room) else (HTTPStatus.FORBIDDEN, {"error": "Your token is not for this room."})

    def health(self) -> dict[str, Any]:
        """Return the counts that monitors of the seed read."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "totalConnections": self.metrics.total_connections,
                "activeRooms": len(self.rooms.rooms) + len(self.topics.topics),
                "messagesRelayed": self.relayed,
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
                        raise BadMessage("forbidden", "Your token is for no room here, so there is nobody to reach.")
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
                    self._relay((target,), encode(signal), "signal")
            case Publish(topic=topic):
                receivers, payload = self.topics.publish(client, topic, message)
                self._relay(receivers, payload, "publish")
            case Ping():
                self.send((connection,), Pong())
                self._perform(self.topics.look_again(client))
            case Join():
                started = perf_counter()
                self._perform(self.rooms.join(client, incoming), message, started)
            case Leave():
                self._perform(self.rooms.leave(client, incoming))
            case Invite():
                self._perform(self.users.invite(client, incoming, time()))
            case Register():
                self._perform(self.users.register(client, incoming))
            case AskIceServers():
                self.send((connection,), self.ice.answer(client.user_id, time()))
            case Metadata():
                self._perform(self.rooms.update(client, incoming))
            case Session():
                self._perform(self.rooms.present(client, incoming))
            case Subscribe(topics=names):
                self.topics.subscribe(client, names)
            case Unsubscribe(topics=names):
                self._perform(self.topics.unsubscribe(client, names))

    def refuse(self, connection: Connection, bad: BadMessage) -> None:
        """Tell the sender of a bad message, and count it."""
        self._errors[bad.code] += 1
        if isinstance(bad, PeerNotFound):
            self.send((connection,), SignalLost(bad.error, bad.code, bad.request_id, bad.peer_id))
        else:
            super().refuse(connection, bad)

    def _perform(self, effects: Iterable[Effect], cause: bytes = b"", started: float = 0.0) -> None:
        """Do what the domain decided.

        Args:
            effects: what is to be done, in order.
            cause: the `join` that caused it, if it was one.
            started: when that came.
        """
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    if isinstance(message, Joined):
                        (client,) = to
                        message = self.ice.furnish(message, client.info.user_id, time())
                    self._relay(to, encode(message), str(message.__struct_config__.tag))
                    if isinstance(message, Joined):
                        self._join_seconds.observe(perf_counter() - started)
                    elif isinstance(message, Error):
                        self._errors[message.code] += len(to)
                case Close(client=client, code=code, reason=reason):
                    _connection(client).disconnect(code, reason)
                case Contest():
                    task = asyncio.get_running_loop().create_task(self._settle(effect, cause, started))
                    self._contests.add(task)
                    task.add_done_callback(self._contests.discard)
                case Away(client=client):
                    client.carrier = None  # a dead connection need not be kept
                    loop = asyncio.get_running_loop()
                    self._graces[client] = loop.call_later(self._grace, self._give_up, client)
                case Back(client=client):
                    self._graces.pop(client).cancel()
                case Probe(client=client):
                    _connection(client).probe()

    def _relay(self, to: Collection[Client], payload: bytes, name: str) -> None:
        frame = encode_frame(payload, text=True)
        self.metrics.sent[name] += len(to)
        if name in ("publish", "signal", "invite"):
            self.relayed += len(to)
        for client in to:
            _connection(client).write_soon(frame)

    def _give_up(self, client: Client) -> None:
        del self._graces[client]
        self._perform(self.rooms.give_up(client))

    async def _settle(self, contest: Contest, cause: bytes, started: float) -> None:
        """Ping the holder of a contested peer id, and let the answer decide."""
        holder = contest.holder.carrier
        alive = isinstance(holder, Connection) and await holder.is_alive(CONTEST_TIMEOUT)
        try:
            self._perform(self.rooms.settle(contest, alive), cause, started)
        except BadMessage as bad:
            bad.request_id = request_id(cause)
            self.refuse(_connection(contest.newcomer), bad)

    def _preview(self, room: Room) -> dict[str, Any]:
        participants = [_participant(peer) for peer in room.peers.values()]
        session, features = room.session, room.session.features
        return {
            "roomId": room.name,
            "title": session.title,
            "projectName": session.title,
            "description": session.description,
            "host": participants[0],
            "participants": participants,
            "participantCount": len(participants),
            "maxParticipants": self.rooms.capacity(room),
            "features": features,
            "audioEnabled": features.audio_enabled,
            "videoEnabled": features.video_enabled,
            "screenShareEnabled": features.screen_share_enabled,
            "duration": int(time() - room.created),
            "createdAt": datetime.fromtimestamp(room.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        }

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
        yield counters(
            "opennoodl_signaling_absences", "Ended absent_peers by how they ended.", "end", absent_peers.ends
        )
        yield counters("opennoodl_signaling_joins", "Answered joins by outcome.", "outcome", self.rooms.joins)
        yield self._join_seconds.family("opennoodl_signaling_join_seconds", "Time from `join` to `joined`.")
        yield counters("opennoodl_signaling_invites", "Invites by outcome.", "outcome", self.users.invites)
        yield counters("opennoodl_signaling_errors", "Errors that clients were sent, by code.", "code", self._errors)
        yield GaugeMetricFamily("opennoodl_signaling_topics", "y-webrtc topics now.", len(self.topics.topics))
        yield CounterMetricFamily("opennoodl_signaling_relayed", "Messages passed to clients.", self.relayed)


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Signaling(settings), settings.port)


def _connection(client: Client) -> Connection:
    assert isinstance(client.carrier, Connection)
    return client.carrier


def _permit(identity: Identity | None, name: str) -> None:
    """See whether somebody may enter a room or topic; what they tell the others there cannot be taken back.

    Raises:
        BadMessage: they may not.
    """
    if identity is None:
        raise BadMessage(
            "unauthorized", "Prove who you are first: connect with `?token=`, or send `register` with `token`."
        )
    if not identity.allows(name):
        raise BadMessage("forbidden", "Your token is not for this room.")
    if identity.access != "write":
        raise BadMessage("forbidden", "Your token is only for reading, which peers cannot see to: use the sync server.")


def _entered(client: Client, incoming: Join | Register | None = None) -> set[str]:
    """Return the rooms and topics in which a client is, after `incoming` if that is done."""
    if isinstance(incoming, Join):
        return client.topics | {incoming.room}
    return client.topics | ({client.room.name} if client.room is not None else set())


def _lost(connection: Connection) -> bool:
    """Return whether a connection that ends was just gone: neither side has closed it."""
    return connection.protocol.state is CLOSED


def _participant(peer: Client) -> dict[str, Any]:
    try:
        metadata = msgspec.json.decode(peer.info.metadata)
    except (msgspec.DecodeError, RecursionError):  # valid JSON, but deeper or larger than can be shown
        metadata = UNSET
    known = metadata if isinstance(metadata, dict) else {}
    user_id = peer.info.user_id
    return {"id": user_id, "userId": user_id, "name": known.get("name"), "avatar": known.get("avatar")}
