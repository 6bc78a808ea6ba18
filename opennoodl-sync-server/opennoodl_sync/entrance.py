"""The entrance: checks whether a client may enter a room, and finds the room, here or at another instance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from .cluster.peers import Peers
from .cluster.relay import GONE, Relay, RelayError
from .cluster.signature import HEADER
from .edge.auth.credential import credential
from .edge.auth.identity import AuthError, Identity
from .edge.errors import CloseConnection
from .edge.http.query import value
from .edge.websocket.connection import Connection
from .refusals import REFUSAL_OF
from .rooms.registry import LoadError
from .rooms.room import ROOM_CLOSED, FullError, NoMemoryError, Room
from .sessions import Session, Sessions
from .storage.interface import ElsewhereError, UnavailableError
from .y_protocol import denial

PATIENCE = 3.0
"""Seconds of attempts to pass a connection on; then its client has to reconnect."""
RETRY_INTERVAL = 0.25
"""Seconds between two attempts."""

Identify = Callable[[Connection, str], Awaitable[Identity]]
"""Returns the user that a token proves; see `Application.identify`."""


class Entrance:
    """Lets clients into rooms.

    Args:
        sessions: all sessions.
        peers: the other instances.
        identify: checks tokens; None if clients need none.
        durable: whether documents are stored.
        most: limit of the clients of a room; 0 means no limit.
    """

    def __init__(
        self, sessions: Sessions, peers: Peers, identify: Identify | None, *, durable: bool, most: int
    ) -> None:
        self._sessions = sessions
        self._peers = peers
        self._identify = identify
        self._durable = durable
        self._most = most

    async def enter(self, connection: Connection, name: str) -> Session | Relay:
        """Let a client into a room; load the document if need be.

        Args:
            connection: the client's connection.
            name: the name of the room.

        Returns:
            the client's session in the room, or its relay to the instance that owns the room.

        Raises:
            CloseConnection: the client may not enter, or not now.
        """
        assert connection.request is not None
        if self._identify is not None:
            await self._prove(connection, name, self._identify)
        acknowledge = value(connection.request.path, "ack") == "true"
        if acknowledge and not self._durable:
            text = "This server stores nothing, so it cannot acknowledge: leave out ack=true."
            raise CloseConnection(1008, text, "not-durable")
        found = await self._find(connection, name)
        if isinstance(found, Relay):
            connection.set_deadline(None)  # the other instance has been shown the token, and may be shown others
            self._sessions.unread.add(found)
            return found
        if found.closed:
            if not found.clients:
                self._sessions.rooms.mark_idle(found)
            raise CloseConnection(1013, ROOM_CLOSED, "room-closed")
        if self._most and len(found.clients) >= self._most:
            raise CloseConnection(1013, f"This room is full: its limit of clients is {self._most}.", "room-full")
        session = Session(self._sessions, connection, found)
        session.enter(acknowledge=acknowledge, reader=_reader(connection.identity))
        return session

    async def _find(self, connection: Connection, name: str) -> Room | Relay:
        """Return the room, or a relay to the instance that has it.

        An instance that stops gives its rooms back within moments, so this is tried for a while.
        """
        until = monotonic() + PATIENCE
        while True:
            try:
                return await self._sessions.rooms.open(name, connection.address)
            except LoadError:
                raise CloseConnection(1011, "This document could not be loaded.", "document-damaged") from None
            except (FullError, NoMemoryError, UnavailableError) as refusal:
                raise CloseConnection(1013, str(refusal), REFUSAL_OF[type(refusal)]) from None
            except ElsewhereError as owner:
                if _is_passed_on(connection):
                    text = "This document moves to another server. Connect again."
                    raise CloseConnection(1013, text, "document-elsewhere") from None
                try:
                    return await self._peers.pass_on(connection, owner)
                except RelayError:
                    if monotonic() > until or connection.is_closing:
                        raise CloseConnection(1013, GONE, "document-elsewhere") from None
            await asyncio.sleep(RETRY_INTERVAL)

    async def _prove(self, connection: Connection, name: str, identify: Identify) -> None:
        """Check the token of the handshake.

        Raises:
            CloseConnection: the client may not read the room's document.
        """
        assert connection.request is not None
        token = credential(connection.request)
        try:
            if token is None:
                raise AuthError("This server requires authentication: connect with a token.", "token-missing")
            _admit(connection, name, await identify(connection, token))
        except AuthError as error:
            code = 1008 if error.code == "unauthorized" else 1013
            raise CloseConnection(code, str(error), error.refusal) from None


async def renew(identify: Identify, session: Session, token: bytes) -> None:
    """Let a client stay for as long as a new token says; with a wrong one nothing changes."""
    connection = session.connection
    try:
        identity = await identify(connection, token.decode(errors="replace"))
        _admit(connection, session.room.name, identity)
    except AuthError as error:
        connection.note_refusal(error.refusal)
        session.reply(denial(str(error)))
    else:
        session.permit(_reader(identity))


def _admit(connection: Connection, name: str, identity: Identity) -> None:
    if not identity.allows(name):
        raise AuthError("Your token is not for this room.", "token-room")
    connection.set_identity(identity)


def _is_passed_on(connection: Connection) -> bool:
    """Return whether another instance passes a connection on, with the right secret or not."""
    return connection.request is not None and HEADER in connection.request.headers


def _reader(identity: Identity | None) -> str | None:
    """Return the user that somebody is who may only read."""
    return identity.user if identity is not None and identity.access == "read" else None
