"""The server with `REDIS_URL`: clients of all instances meet in the same rooms and topics.

Redis has the rooms. A decision reads a room and lets the domain decide. One script then writes the result, and appends
the messages for clients to the streams of their instances. An instance reads one stream, with the messages of its own
decisions too. So all messages arrive in one order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from time import perf_counter, time
from typing import Any, assert_never

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..edge.admission.address_limits import rate_limit_key
from ..edge.application import Trouble
from ..edge.auth.credential import credential
from ..edge.errors import BadMessage
from ..edge.http.request import HttpRequest
from ..edge.metrics import by_room_size, counters
from ..edge.peer import Receiver
from ..edge.websocket.connection import Connection
from ..messages import (
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
from ..rooms.model import Room
from ..sender import Sender
from ..session_page import Page, SessionInfoPage
from ..settings import Settings
from ..signaling import Signaling, SignalingHandler
from .delivery import Delivery
from .devices import Devices
from .liveness import Liveness
from .members import Member, Members
from .membership import Membership
from .model import Focus, Rules
from .peers import Peers
from .recovery import SharedRecovery
from .redis_connection import Unreachable
from .relay import Relay
from .requests import Requests, unavailable
from .rooms import SharedRooms
from .topics import SharedTopics


class SharedSignaling(Signaling):
    """Rooms, topics and users of all instances.

    Args:
        settings: the settings of the server.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        max_absent = settings.max_connections if settings.resume_grace else None
        rules = Rules(settings.max_room_size, max_absent, self.auth.required, settings.resume_grace)
        self._sender = Sender(self.metrics.sent)
        self.membership = Membership(settings.redis_url)
        self.members = Members(self.membership)
        self.liveness = Liveness(self.membership, self.members)
        self._rooms = SharedRooms(self.membership, rules, self.ice)
        self.topics = SharedTopics(self.membership, settings.max_room_size, settings.max_topics)
        self.requests = Requests(self.membership, self._sender)
        self.devices = Devices(self.membership, self.requests, self._sender, settings.invites_per_hour)
        self.relay = Relay(self.membership, self.requests, self.topics)
        self._recovery = SharedRecovery(self.membership, self.members, self._rooms, self.devices, self.topics)
        self.peers = Peers(
            membership=self.membership,
            members=self.members,
            rooms=self._rooms,
            devices=self.devices,
            topics=self.topics,
            requests=self.requests,
            liveness=self.liveness,
        )
        self._delivery = Delivery(
            membership=self.membership,
            members=self.members,
            devices=self.devices,
            topics=self.topics,
            requests=self.requests,
            sender=self._sender,
            liveness=self.liveness,
        )
        self._session_page = SessionInfoPage(
            self._find, self._rooms.domain.capacity, self.auth, self.metrics.rate_limited
        )

    async def start(self) -> None:
        """Become a member of the cluster.

        Raises:
            StartError: Redis cannot be used.
        """
        await self.membership.start(self._delivery, self._recovery)

    async def stop(self) -> None:
        """Wait until all clients have left their rooms, then end the membership."""
        await self.peers.all_left()
        await self.membership.stop()

    def trouble(self) -> Trouble | None:
        """Return the reason why this instance refuses new clients; None if it does not."""
        reason = self.membership.failure
        return None if reason is None else Trouble(reason, outside=True)

    # Connections

    def handler(self, connection: Connection) -> SharedHandler:
        """Create the member of a new connection, and what handles its messages."""
        return SharedHandler(self, connection, self.members.add(connection, rate_limit_key(connection.address)))

    def refuse(self, receiver: Receiver, bad: BadMessage) -> None:
        """Send the error about a message to its sender, and count it."""
        self._sender.refuse(receiver, bad)

    # HTTP

    async def page(self, request: HttpRequest) -> Page | None:
        """Return the response to ``/session/<room>/info``; None for another path."""
        token = credential(request.head) if self.auth.required else None
        return await self._session_page.answer(request.path, request.address, token)

    async def _find(self, name: str) -> Room | None:
        try:
            transaction = await self._rooms.load([name], Focus(name, ""))
        except Unreachable:
            raise unavailable() from None
        room = transaction.rooms.rooms.get(name)
        if room is not None:
            room.created += time() - transaction.loaded.now / 1000  # to this instance's clock
        return room

    def health(self) -> dict[str, Any]:
        """Return the counts that ``/health`` shows."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "totalConnections": self.metrics.total_connections,
                "activeRooms": len(self.members.rooms) + len(self.topics.topics),
                "messagesRelayed": self._sender.relayed,
            },
        }

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics that only this server has, about this instance unless their help says otherwise."""
        rooms, shared = self.members.rooms, self._rooms
        sizes = [len(room.peers) for room in rooms.values()]
        absent, size, _ = self.membership.counts
        yield GaugeMetricFamily("opennoodl_signaling_rooms", "Rooms of the editor now.", len(rooms))
        yield GaugeMetricFamily("opennoodl_signaling_peers", "Peers in rooms now.", sum(sizes))
        yield by_room_size("opennoodl_signaling_peers_by_room_size", "Peers in rooms by the size of the room.", sizes)
        yield GaugeMetricFamily("opennoodl_signaling_absent_peers", "Absent peers of all instances.", absent)
        yield GaugeMetricFamily("opennoodl_signaling_waiting_bytes", "Bytes of all mailboxes in Redis.", size)
        yield counters("opennoodl_signaling_absences", "Ended absences.", "end", shared.absences)
        yield counters("opennoodl_signaling_joins", "Answered joins by outcome.", "outcome", shared.joins)
        yield counters("opennoodl_signaling_invites", "Invites by outcome.", "outcome", self.devices.users.invites)
        yield GaugeMetricFamily("opennoodl_signaling_topics", "y-webrtc topics now.", len(self.topics.topics))
        yield CounterMetricFamily("opennoodl_signaling_conflicts", "Decisions that were made anew.", shared.conflicts)
        yield from self._sender.metric_families()
        yield from self.membership.metric_families()


class SharedHandler(SignalingHandler):
    """Handles the messages of one client, in the rooms and topics of all instances."""

    __slots__ = ()
    app: SharedSignaling
    client: Member

    def new_topics(self, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""
        return self.app.topics.new_topics(self.client, names)

    def act(self, incoming: Incoming, message: bytes) -> Awaitable[None] | None:
        """Carry out a message. Later messages of the client wait for a change of a room, user or topic in Redis.

        They also wait while too many scripts wait for Redis.
        """
        app, member = self.app, self.client
        match incoming:
            case Signal():
                app.relay.signal(member, incoming)
                return app.membership.link.space()
            case Publish(topic=topic):
                app.relay.publish(member, topic, message)
                return app.membership.link.space()
            case Ping():
                app.send((self.connection,), Pong())
                if member.awaited and member.room is None:
                    app.membership.spawn(app.topics.close_if_free(member))
                return None
            case AskIceServers():
                app.send((self.connection,), app.ice.answer(member.user_id, time()))
                return None
            case Invite():
                app.devices.invite(member, incoming, message)
                return None
            case Join():
                member.contested = None
                work = app.peers.join(member, incoming, message, perf_counter())
            case Leave():
                if member.contested is not None and incoming.room in (None, member.contested[1]):
                    member.contested = None
                work = app.peers.leave(member, incoming)
            case Register():
                work = app.devices.register(member, incoming)
            case Metadata():
                work = app.peers.change(member, lambda rooms, peer: rooms.update(peer, incoming))
            case Session():
                work = app.peers.change(member, lambda rooms, peer: rooms.change_session(peer, incoming))
            case Subscribe(topics=names):
                work = app.topics.subscribe(member, names)
            case Unsubscribe(topics=names):
                work = app.topics.unsubscribe(member, names)
            case _:
                assert_never(incoming)
        return app.requests.begin(member, work, message)

    def close(self, *, lost: bool) -> None:
        """Leave the room and all topics, or keep the place of a client that can resume."""
        # The clients of an instance that drains resume at another one.
        self.app.members.end(self.client, keeps=lost or self.app.draining)
        self.app.peers.end(self.client)

    def ping_payload(self) -> bytes:
        """Return the payload for a ping. Its pong shows which messages the peer has received."""
        member = self.client
        return b"" if member.tokens is None else b"%d %d" % (member.joined, member.counted)

    def pong(self, payload: bytes) -> None:
        """Drop the messages that a pong acknowledges."""
        joined, _, counted = payload.partition(b" ")
        if joined.isdigit() and counted.isdigit() and int(joined) == self.client.entered:
            self.app.peers.received(self.client, int(counted))
