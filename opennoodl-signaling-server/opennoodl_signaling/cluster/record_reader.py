"""From records to the domain: makes the rooms, peers and logs of a transaction from what was read from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from msgspec import Raw

from ..messages import PeerInfo, PeerJoined, PeerLeft
from ..rooms.absent_peers import AbsentPeer
from ..rooms.model import Room
from ..rooms.resumption import Former, Resumption
from ..rooms.rooms import Rooms
from ..rooms.unacknowledged import DeliveryLog
from .model import Loaded, SharedPeer
from .records import AbsenceRecord, Mailbox, ResumptionRecord, RoomRecord, TokenRecord


class RecordReader:
    """Makes rooms and peers from records.

    Args:
        loaded: the data that was read.
        rooms: the rules of rooms, whose totals the peers are a part of.
    """

    def __init__(self, loaded: Loaded, rooms: Rooms) -> None:
        self._loaded = loaded
        self._rooms = rooms

    def room(self, name: str, record: RoomRecord) -> Room:
        """Return the room of a record, with its peers."""
        room = Room(name)
        room.created, room.session = record.created / 1000, record.session
        arrivals = {entry.peer_id: entry.arrival for entry in record.peers}
        for entry in record.peers:
            peer = SharedPeer(entry.instance, entry.connection, entry)
            peer.info = PeerInfo(entry.peer_id, entry.user_id, Raw(entry.metadata))
            peer.user_id, peer.room = entry.user_id, room
            if entry.took_place is not None:
                peer.took_place = monotonic() - (self._loaded.now - entry.took_place) / 1000
            room.peers[entry.peer_id] = peer
            focused = self._loaded.focus == (name, entry.peer_id)
            mailbox = self._loaded.mailbox if focused else Mailbox()
            others = arrivals.keys() - {entry.peer_id} if focused else set[str]()
            if entry.resumption is not None:
                self.resume(peer, entry.resumption, mailbox, others)
            if entry.absence is not None:
                peer.absent = self._absence(entry.absence, mailbox, others, arrivals)
        return room

    def resume(self, peer: SharedPeer, record: ResumptionRecord, mailbox: Mailbox, others: set[str]) -> None:
        """Give a peer its resumption.

        Args:
            peer: the peer.
            record: its tokens.
            mailbox: its mailbox, as far as it was read.
            others: the ids of the other peers of its room, if its mailbox was read.
        """
        until = None if peer.record is None or peer.record.absence is None else peer.record.absence.number
        former = record.former
        peer.resumption = peer.kept = Resumption(
            self._log(record.current, mailbox, others, until) if record.current.counted else None,
            None
            if former is None
            else Former(former.digest, self._log(former, mailbox, others, until), counted=former.counted),
        )
        peer.kept.token = record.current.digest
        peer.tokens = record

    def _log(self, token: TokenRecord, mailbox: Mailbox, others: set[str], until: int | None) -> DeliveryLog:
        """Return the log of messages since a `joined`, until the connection of the peer was lost."""
        since = [(number, kept) for number, kept in mailbox.messages if number > token.start]
        trimmed = mailbox.number - len(mailbox.messages) - token.start
        known = others - {kept.peer for _, kept in since if kept.kind == "came"}
        log = DeliveryLog(known, self._rooms.logs, max(trimmed, 0))
        for number, kept in since:
            if until is None or number <= until:
                if kept.kind == "signal":
                    log.add(kept.signal)
                elif kept.kind == "came":
                    log.add(PeerJoined(kept.peer, "", Raw(b"")))
                else:
                    log.add(PeerLeft(kept.peer))
        return log

    def _absence(
        self, record: AbsenceRecord, mailbox: Mailbox, others: set[str], arrivals: Mapping[str, int]
    ) -> AbsentPeer:
        waiting = [kept for number, kept in mailbox.messages if number > record.number]
        came = {kept.peer for kept in waiting if kept.kind == "came"}
        known = {peer for peer in others - came if arrivals[peer] <= record.arrivals}
        absent = AbsentPeer(known, self._rooms.absent_peers)
        for kept in waiting:
            # A sender that has left since is another peer, even if it has joined again with the same id.
            if kept.kind == "signal" and arrivals.get(kept.peer) == kept.arrival:
                absent.queue(kept.signal, kept.echoed)
        return absent
