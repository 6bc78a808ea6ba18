"""Delivery: handles the entries of this instance's stream in Redis, most of which are messages to its clients."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec
import structlog
from msgspec import UNSET, Raw

from ..edge.errors import BadMessage
from ..rooms.rooms import UNKNOWN_PEER, PeerNotFound
from ..sender import Sender
from .devices import Devices
from .liveness import Liveness
from .members import BROKEN, Member, Members
from .membership import Membership, Reader
from .requests import Requests
from .topics import SharedTopics

log = structlog.get_logger()


class Delivery(Reader):
    """Handles the entries of the stream.

    Args:
        membership: the membership of this instance.
        members: the connections of this instance.
        devices: the devices of users at this instance.
        topics: the topics that clients of this instance are subscribed to.
        requests: sends errors to clients.
        sender: sends all other messages.
        liveness: asks other instances about their connections, and answers them.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        members: Members,
        devices: Devices,
        topics: SharedTopics,
        requests: Requests,
        sender: Sender,
        liveness: Liveness,
    ) -> None:
        self._membership = membership
        self._members = members
        self._devices = devices
        self._topics = topics
        self._requests = requests
        self._sender = sender
        self._liveness = liveness

    def deliver(self, entry: bytes) -> None:
        """Handle an entry of the stream. After a failure, close all clients."""
        try:
            self._deliver(msgspec.msgpack.decode(entry))
        except Exception:
            log.exception("an entry of the stream could not be handled")
            self.gap()

    def gap(self) -> None:
        """Close all clients, since entries of the stream are missing."""
        self._members.disconnect_all(1013, BROKEN, "unavailable")

    def _deliver(self, entry: list[Any]) -> None:
        match entry:
            case ["signal", number, payload, instance, sender, echoed, to]:
                self._signal(number, payload, (instance, sender, echoed, to))
            case ["publish", topic, payload]:
                self._sender.relay(self._topics.topics.get(topic, ()), payload.encode(), "publish")
            case ["send", numbers, payload, name, about]:
                members = [member for number in numbers if (member := self._members.connected.get(number)) is not None]
                if name == "peer-joined" and not self._membership.compared:
                    # This instance is late: these clients may still show a peer that has left, beside the new one.
                    for member in members:
                        member.close_stale()
                    return
                for member in members:
                    self._note_sent(member, name, about)
                self._sender.relay(members, payload, name)
            case ["invite", user, payload]:
                self._sender.relay(self._devices.of(user), payload, "invite")
            case ["ask", number, instance, question]:
                self._membership.spawn(self._liveness.answer(number, instance, question))
            case ["alive", question, alive]:
                self._liveness.answered(question, alive)
            case [kind, number, *about]:
                member = self._members.connected.get(number)
                if member is not None:
                    self._deliver_to_client(member, kind, about)

    def _deliver_to_client(self, member: Member, kind: str, about: list[Any]) -> None:
        """Handle an entry about one client."""
        match kind, *about:
            case ["subscribed", topic]:
                self._topics.subscribed(member, topic)
            case ["lost", to, echoed]:
                self._requests.refuse(member, PeerNotFound(UNKNOWN_PEER, to), Raw(echoed.encode()) if echoed else UNSET)
            case ["close", code, reason, refusal]:
                self._members.clear_room(member)
                member.disconnect(code, reason, refusal)
            case ["probe"]:
                self._membership.spawn(self._probe(member))
            case ["place"]:
                self._membership.spawn(self._topics.close_if_free(member))

    def _signal(self, number: int, payload: str, origin: tuple[str, int, str, str]) -> None:
        member = self._members.connected.get(number)
        if member is not None:
            member.counted += 1
            self._sender.relay((member,), payload.encode(), "signal")
            return
        leaving = self._members.leaving.get(number)
        if leaving is None or not leaving.keeps or leaving.tokens is None:  # otherwise the signal is in its mailbox
            instance, sender, echoed, to = origin
            self._membership.send_entry(instance, ("lost", sender, to, echoed))

    def _note_sent(self, member: Member, name: str, about: Any) -> None:
        """Update the instance's knowledge about a client after a message to it."""
        match name:
            case "joined":
                member.known, member.counted = set(about), 0
                member.joined += 1
                self._sender.join_seconds.observe(perf_counter() - member.started)
            case "peer-joined":
                member.known.add(about)
                member.counted += 1
            case "peer-left":
                member.known.discard(about)
                member.counted += 1
            case "signal":
                member.counted += 1
            case "error":
                member.connected.note_error(BadMessage(about, ""))

    async def _probe(self, member: Member) -> None:
        """Ping a client after its decision is complete: the entry can arrive before the answer of Redis."""
        async with member.lock:
            if not member.closed:
                member.connected.probe()
