"""Awareness: which clients are in a room, and the state of each, such as its cursor. Imports no socket.

States are stored as the bytes that were received. The rules are those of y-protocols' ``awareness.js``: a state with a
higher clock replaces one with a lower clock, and ``null`` removes it.
"""

from collections.abc import Collection, Container, Iterable
from time import monotonic

from ..yjs.contents import parse_json
from ..yjs.lib0 import MalformedError, read_bytes, read_varuint, write_bytes, write_varuint

MAX_STATES = 64
"""States that one connection may add: its own, and those of other tabs for which it sends."""
MAX_SIZE = 65_536
"""Bytes of all states of one connection."""
MAX_ENTRIES = 2048
"""Entries of one awareness update. A client repeats the states of others, so this is more than `MAX_STATES`."""
MAX_STEP = 2**24
"""Largest step of a clock beyond the last known one. Clients count in ones, also while they are disconnected."""
MAX_ENDED = 1024
"""Clocks of removed states that are stored. Without its clock, a late repetition would add a removed state again."""

MAX_LOST_SIZE = 4096
"""Bytes of the states of a lost connection that stay for a while. A cursor has a few hundred."""
RENEWAL_PAUSE = 1.0
"""Seconds between two requests to all clients to renew their states."""

NULL = b"null"


class Awareness:
    """The awareness states of one room. Each belongs to the connection that last changed it.

    Attributes:
        changed: ids of the clients whose states have changed since the last `encode_changes`.
        stale: by connection, ids of the clients whose states it has to renew; see `renewals`.
    """

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, bytes]] = {}
        self._owners: dict[int, object] = {}
        self._owned: dict[object, set[int]] = {}
        self._ended: dict[int, int] = {}
        self.changed: set[int] = set()
        self._readers: dict[int, str] = {}  # by client id of a read-only connection: its user
        self._lost: set[object] = set()  # lost connections whose states stay for a while
        self.stale: dict[object, set[int]] = {}
        self._renew_again = 0.0  # monotonic time from which all clients may be asked to renew

    def __len__(self) -> int:
        return len(self._states)

    def apply(
        self, update: bytes, owner: object, *, reader: str | None = None, writers: Container[int] = ()
    ) -> list[int]:
        """Merge an awareness update; return the ids of the clients whose states changed.

        A state is ignored if its clock is more than `MAX_STEP` ahead of the known one. The client of that state would
        otherwise adopt the clock, and count beyond the numbers that can be sent.

        Args:
            update: the awareness update.
            owner: the connection that sent it.
            reader: the user of a read-only connection, whose changes of other users' states are ignored; else None.
            writers: client ids that do not belong to read-only connections.

        Raises:
            MalformedError: the update is not valid, or exceeds a limit; nothing was changed.
        """
        entries = _parse(update)
        self._check_new_states(entries, owner)
        changed = []
        # The first message of y-websocket's client has its own state only; later ones repeat the states of others.
        first = len(entries) == 1 and owner not in self._owned
        if first and self._returns(entries[0]):
            self._renew_all()
        for client, clock, state in entries:
            known = self._states.get(client)
            if reader is not None and (client in writers or self._belongs_to_another(client, owner, reader)):
                continue
            if clock > (self._ended.get(client, 0) if known is None else known[0]) + MAX_STEP:
                continue
            if known is None:
                if clock <= self._ended.get(client, 0):
                    if state != NULL and client in self._ended:
                        self.stale.setdefault(owner, set()).add(client)
                    continue
                if state == NULL:
                    if reader is None:  # else it could block the state of a future client
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
        """Keep the states of a lost connection until `remove`; return whether there are any and they are small enough.

        If the same client connects again in that time and sends the same or newer states, these belong to the new
        connection.
        """
        if sum(len(self._states[client][1]) for client in self._owned.get(owner, ())) > MAX_LOST_SIZE:
            return False
        self.stale.pop(owner, None)
        if owner in self._owned:
            self._lost.add(owner)
        return owner in self._owned

    def remove(self, owner: object) -> list[int]:
        """Remove every state of a connection; return the ids of their clients."""
        self.stale.pop(owner, None)
        clients = list(self._owned.get(owner, ()))
        for client in clients:
            self._end(client, self._states[client][0])
        self.changed.update(clients)
        return clients

    def encode_changes(self) -> bytes:
        """Return an awareness update with the states that changed since the last call."""
        update = self.encode(self.changed)
        self.changed = set()
        self._forget_oldest()
        return update

    def renewals(self) -> list[tuple[object, bytes]]:
        """Return (connection, awareness update) pairs that make the connections renew states; clear `stale`.

        A client that reconnects ignores a state whose clock it knows, and other clients ignore its state. Both appear
        only when their own clients renew them, up to 18 seconds later. A client renews its state at once when it
        receives the removal of that state (y-protocols, ``applyAwarenessUpdate``).
        """
        stale, self.stale = self.stale, {}
        renewals = []
        for owner, clients in stale.items():
            entries = []
            for client in clients:
                clock = self._states[client][0] if client in self._states else self._ended.get(client, 0)
                entries.append(write_varuint(client) + write_varuint(clock) + write_bytes(NULL))
            renewals.append((owner, write_varuint(len(entries)) + b"".join(entries)))
        return renewals

    def seen(self) -> frozenset[int]:
        """Return the ids of the clients whose states a connection has that received every message so far."""
        return frozenset(self._states.keys() | self.changed)

    def encode(self, clients: Collection[int] | None = None) -> bytes:
        """Return an awareness update with the states of `clients`; None means all clients in the room."""
        clients = self._states if clients is None else clients
        return write_varuint(len(clients)) + b"".join(self._entries(clients))

    def _entries(self, clients: Iterable[int]) -> Iterable[bytes]:
        for client in clients:
            clock, state = self._states.get(client) or (self._ended.get(client, 0), NULL)
            yield write_varuint(client) + write_varuint(clock) + write_bytes(state)

    def _check_new_states(self, entries: list[tuple[int, int, bytes]], owner: object) -> None:
        """Check that the new states of an update are within the limits of one connection, and that they are JSON.

        Parsing takes long, so the limits are checked first, and known states are not parsed.

        Raises:
            MalformedError: a limit is exceeded, or a state is not JSON.
        """
        sizes = {client: len(self._states[client][1]) for client in self._owned.get(owner, ())}
        new_states = []
        for client, clock, state in entries:
            known = self._states.get(client)
            if state != NULL and (known is None or clock > known[0]):
                sizes[client] = len(state)
                new_states.append(state)
        if len(sizes) > MAX_STATES:
            raise MalformedError(f"one connection may have {MAX_STATES} awareness states")
        if max(sum(sizes.values()), sum(map(len, new_states))) > MAX_SIZE:  # it may repeat a client
            raise MalformedError(f"the awareness states of one connection may have {MAX_SIZE} bytes together")
        for state in new_states:
            try:
                # Every client of the room would fail to parse it.
                parse_json(state.decode())
            except (ValueError, RecursionError):
                raise MalformedError("an awareness state is not JSON") from None

    def _belongs_to_another(self, client: int, owner: object, reader: str) -> bool:
        """Return whether a client id belongs, or belonged when it left, to another user than `reader`."""
        if client in self._states:
            former = self._owners[client]
            return former is not owner and not (former in self._lost and self._readers.get(client) == reader)
        return client in self._ended and self._readers.get(client) != reader

    def _returns(self, entry: tuple[int, int, bytes]) -> bool:
        """Return whether an entry is the state of a client that has left or has lost its connection."""
        client, _, state = entry
        return state != NULL and (client in self._ended or self._owners.get(client) in self._lost)

    def _renew_all(self) -> None:
        """Mark all states as stale, since a client that reconnects ignores those that it knows."""
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

    def _forget_oldest(self) -> None:
        # Only after they were sent as removed.
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
