"""Awareness: who is here, where their cursors are. Knows no socket.

States are kept as the bytes they came in. Source of the rules: y-protocols' ``awareness.js``; a state with
a higher clock replaces one with a lower, and ``null`` ends it.
"""

from collections.abc import Collection, Container, Iterable
from time import monotonic

from ..yjs.contents import parse_json
from ..yjs.lib0 import MalformedError, read_bytes, read_varuint, write_bytes, write_varuint

MAX_STATES = 64
"""States that one connection may bring: its own, and those of other tabs that it speaks for."""
MAX_SIZE = 65_536
"""Bytes of all of them."""
MAX_ENTRIES = 2048
"""Entries of one awareness update; a client passes on what it hears, so they may be more than it brings."""
MAX_STEP = 2**24
"""By how much a clock may be ahead of what is known of it. Clients count in ones, also while they are away."""
MAX_ENDED = 1024
"""Clocks of ended states that are remembered, so that a late echo does not bring a ghost back."""

MAX_LOST_SIZE = 4096
"""Bytes of the states of a lost connection that are kept; a cursor has a few hundred."""
RENEWAL_PAUSE = 1.0
"""Seconds for which clients that were asked to renew their states are not asked again."""

NULL = b"null"


class Awareness:
    """The states of one room, each owned by the connection that last brought news of it.

    Attributes:
        changed: the clients whose states have changed since the last `encode_changes`.
        stale: by owner, the clients whose states it has to renew, for `renewals`.
    """

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, bytes]] = {}
        self._owners: dict[int, object] = {}
        self._owned: dict[object, set[int]] = {}
        self._ended: dict[int, int] = {}
        self.changed: set[int] = set()
        self._readers: dict[int, str] = {}  # of whom readers brought, the users that those are
        self._lost: set[object] = set()  # owners whose connections are gone, and whose states are kept for a while
        self.stale: dict[object, set[int]] = {}
        self._renew_again = 0.0  # when everybody may be asked to renew

    def __len__(self) -> int:
        return len(self._states)

    def apply(
        self, update: bytes, owner: object, *, reader: str | None = None, writers: Container[int] = ()
    ) -> list[int]:
        """Merge an awareness update that `owner` brought; return the ids of the clients that changed.

        Args:
            update: the awareness update.
            owner: who brought it.
            reader: the user that it is, if what it says of others is ignored.
            writers: clients who are somebody else than a reader.

        A clock that is far ahead is ignored: its client would take it up, and count on beyond what can be sent.

        Raises:
            MalformedError: it is not one, or brings too much; nothing was changed.
        """
        entries = _parse(update)
        self._see_what_it_brings(entries, owner)
        changed = []
        # The first message of y-websocket's client is about itself alone; later ones repeat what it hears of others.
        first = len(entries) == 1 and owner not in self._owned
        if first and self._is_back(entries[0]):
            self._renew_all()
        for client, clock, state in entries:
            known = self._states.get(client)
            if reader is not None and (client in writers or self._is_anothers(client, owner, reader)):
                continue
            if clock > (self._ended.get(client, 0) if known is None else known[0]) + MAX_STEP:
                continue
            if known is None:
                if clock <= self._ended.get(client, 0):
                    if state != NULL and client in self._ended:
                        self.stale.setdefault(owner, set()).add(client)
                    continue
                if state == NULL:
                    if reader is None:  # it could keep somebody who is yet to come from being shown
                        self._ended[client] = clock
                    continue
            elif clock < known[0] or (clock == known[0] and state != NULL):
                if first and clock == known[0] and self._owners[client] in self._lost:
                    self._own(client, owner, reader)
                continue
            if state == NULL:
                self._end(client, clock)
            else:
                self._states[client] = (clock, state)
                self._own(client, owner, reader)
            changed.append(client)
        self.changed.update(changed)
        return changed

    def lose(self, owner: object) -> bool:
        """Keep the states of `owner`, whose connection is lost, until `remove`; return whether they are kept.

        The same client may come back within that time with the same states or newer ones, which are that
        connection's then.
        """
        if sum(len(self._states[client][1]) for client in self._owned.get(owner, ())) > MAX_LOST_SIZE:
            return False
        self.stale.pop(owner, None)
        if owner in self._owned:
            self._lost.add(owner)
        return owner in self._owned

    def remove(self, owner: object) -> list[int]:
        """End every state that `owner` brought; return the ids of their clients."""
        self.stale.pop(owner, None)
        clients = list(self._owned.get(owner, ()))
        for client in clients:
            self._end(client, self._states[client][0])
        self.changed.update(clients)
        return clients

    def encode_changes(self) -> bytes:
        """Return the awareness update that tells of the clients that changed since the last call."""
        update = self.encode(self.changed)
        self.changed = set()
        self._forget_some()
        return update

    def renewals(self) -> list[tuple[object, bytes]]:
        """Return awareness updates for one owner each, which make it renew states, and forget them.

        A client that was away ignores a state at a clock that it knows already, and others ignore its state, until
        the state's own client renews it, which can take 18 seconds. That client does so at once when it is told
        that its state has ended (y-protocols, ``applyAwarenessUpdate``).
        """
        stale, self.stale = self.stale, {}
        told = []
        for owner, clients in stale.items():
            entries = []
            for client in clients:
                clock = self._states[client][0] if client in self._states else self._ended.get(client, 0)
                entries.append(write_varuint(client) + write_varuint(clock) + write_bytes(NULL))
            told.append((owner, write_varuint(len(entries)) + b"".join(entries)))
        return told

    def seen(self) -> frozenset[int]:
        """Return the ids of all clients that a reader of every message so far may believe to be here."""
        return frozenset(self._states.keys() | self.changed)

    def encode(self, clients: Collection[int] | None = None) -> bytes:
        """Return the awareness update that tells of `clients`, or of everybody that is here."""
        clients = self._states if clients is None else clients
        return write_varuint(len(clients)) + b"".join(self._entries(clients))

    def _entries(self, clients: Iterable[int]) -> Iterable[bytes]:
        for client in clients:
            clock, state = self._states.get(client) or (self._ended.get(client, 0), NULL)
            yield write_varuint(client) + write_varuint(clock) + write_bytes(state)

    def _see_what_it_brings(self, entries: list[tuple[int, int, bytes]], owner: object) -> None:
        """Refuse more states, or larger ones, than a connection may bring, and those that are not JSON.

        Only as many as may be are read as JSON, which takes long. States that are known already are not looked at.
        """
        brings = {client: len(self._states[client][1]) for client in self._owned.get(owner, ())}
        news = []
        for client, clock, state in entries:
            known = self._states.get(client)
            if state != NULL and (known is None or clock > known[0]):
                brings[client] = len(state)
                news.append(state)
        if len(brings) > MAX_STATES:
            raise MalformedError(f"one connection may have {MAX_STATES} awareness states")
        if max(sum(brings.values()), sum(map(len, news))) > MAX_SIZE:  # a client may be named more than once
            raise MalformedError(f"the awareness states of one connection may have {MAX_SIZE} bytes together")
        for state in news:
            try:
                # Whatever is not JSON would be thrown at every client of the room.
                parse_json(state.decode())
            except (ValueError, RecursionError):
                raise MalformedError("an awareness state is not JSON") from None

    def _is_anothers(self, client: int, owner: object, reader: str) -> bool:
        """Return whether a client is, or was when it left, somebody else than a reader."""
        if client in self._states:
            former = self._owners[client]
            return former is not owner and not (former in self._lost and self._readers.get(client) == reader)
        return client in self._ended and self._readers.get(client) != reader

    def _is_back(self, entry: tuple[int, int, bytes]) -> bool:
        """Return whether a state is one of a client that was here and had left, or had lost its connection."""
        client, _, state = entry
        return state != NULL and (client in self._ended or self._owners.get(client) in self._lost)

    def _renew_all(self) -> None:
        """Have the clients that are here renew their states, for one that came back and knows them."""
        now = monotonic()
        if now >= self._renew_again:
            self._renew_again = now + RENEWAL_PAUSE
            for owner, clients in self._owned.items():
                if owner not in self._lost:
                    self.stale.setdefault(owner, set()).update(clients)

    def _own(self, client: int, owner: object, reader: str | None) -> None:
        if reader is not None:
            self._readers[client] = reader
        else:
            self._readers.pop(client, None)
        former = self._owners.get(client)
        if former is not owner:
            if former is not None:
                self._disown(client, former)
            self._owners[client] = owner
            self._owned.setdefault(owner, set()).add(client)

    def _disown(self, client: int, owner: object) -> None:
        owned = self._owned[owner]
        owned.discard(client)
        if not owned:
            del self._owned[owner]
            self._lost.discard(owner)

    def _end(self, client: int, clock: int) -> None:
        del self._states[client]
        self._disown(client, self._owners.pop(client))
        self._ended.pop(client, None)
        self._ended[client] = clock

    def _forget_some(self) -> None:
        # Not when they end: the others are told of it before.
        while len(self._ended) > MAX_ENDED:
            client = next(iter(self._ended))
            del self._ended[client]
            self._readers.pop(client, None)


def _parse(update: bytes) -> list[tuple[int, int, bytes]]:
    count, at = read_varuint(update, 0)
    if count > MAX_ENTRIES:
        raise MalformedError(f"an awareness update may have {MAX_ENTRIES} entries")
    entries = []
    for _ in range(count):
        client, at = read_varuint(update, at)
        clock, at = read_varuint(update, at)
        state, at = read_bytes(update, at)
        entries.append((client, clock, state))
    return entries
