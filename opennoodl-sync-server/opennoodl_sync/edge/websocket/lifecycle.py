"""The lifecycle of a WebSocket: the application accepts or refuses it, and metrics count its begin and end."""

from __future__ import annotations

from functools import partial
from time import monotonic

from websockets.asyncio.server import ServerConnection

from ..admission.address_limits import rate_limit_key
from ..admission.refusal_delay import RefusalDelays
from ..application import Application
from ..auth.credential import credential
from ..errors import CloseConnection
from ..refusals import OF_CLOSE_CODE
from .connection import Connection
from .flow_control import EdgePause

GOING_AWAY = "This server is going away. Connect again."


class Lifecycle:
    """Handles each WebSocket from the end of its handshake to its own end.

    Args:
        app: accepts or refuses the connections.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._refusal_delays = RefusalDelays(app.settings.max_connections)

    async def handle(self, connection: ServerConnection) -> None:
        """Handle one connection until it has ended. The library websockets calls this."""
        assert isinstance(connection, Connection)
        self._app.metrics.opened()
        try:
            await self._open(connection)
            connection.forget_handshake()
            await connection.wait_closed()
        finally:
            self._app.metrics.closed(connection.close_code)

    async def _open(self, connection: Connection) -> None:
        """Let the application accept or refuse the connection; then read from it."""
        try:
            handler = await self._app.open(connection)
        except CloseConnection as close:
            self._refuse(connection, close)
        except Exception:
            connection.logger.exception("a connection could not be opened")
            self._refuse(connection, CloseConnection(1011, "The server failed on this connection."))
        else:
            connection.attach(handler)
            if self._app.draining:
                connection.disconnect(1001, GOING_AWAY)
        connection.resume_reading(EdgePause.OPENING)

    def _refuse(self, connection: Connection, close: CloseConnection) -> None:
        """Close a refused connection: at once, or after the delay that `RefusalDelays` allows."""
        assert connection.request is not None
        connection.note_refusal(close.refusal or OF_CLOSE_CODE[close.code], close=close.code)
        address = rate_limit_key(connection.address)
        seconds = 0.0
        if not self._app.draining:
            seconds = self._refusal_delays.keep(address, credential(connection.request), monotonic())
        if seconds:
            connection.when_lost(partial(self._refusal_delays.release, address))
            connection.set_deadline(seconds, close.reason, close.code)
        else:
            connection.disconnect(close.code, close.reason)
