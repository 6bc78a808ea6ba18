"""The application: what one server adds to the edge."""

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import Any, ClassVar

from .auth.authenticator import ATTEMPTS, Authenticator
from .auth.identity import AuthError, Identity
from .errors import CloseConnection
from .limits import Over
from .metrics import Metrics
from .settings import EdgeSettings
from .websocket.connection import Connection


class Application(ABC):
    """The questions the edge asks of a server.

    For every connection `open`, any number of `receive` and exactly one `close` are called, in this
    order and never at the same time. Only `start`, `page`, `open` and `stop` may wait; what a message
    has to wait for is done with `Connection.work`.
    """

    title: ClassVar[str]
    """The server's name for people, as the page on ``/`` shows it."""
    about: ClassVar[str]
    """What the server is for and how it is reached, in a paragraph of plain text."""
    max_message_size: int
    """Bytes of the largest message that is read; a larger one closes its sender with 1009."""
    settings: EdgeSettings
    auth: Authenticator
    metrics: Metrics

    async def start(self) -> None:
        """Open what the server needs before it listens.

        Raises:
            StartError: the server cannot start; nothing was changed.
        """

    def drain(self) -> None:
        """Take note that the server is about to close every connection, and then to stop."""

    async def stop(self) -> None:
        """Flush and close; called when every connection has ended."""

    def refusal(self, path: str) -> str | None:
        """Return why a WebSocket handshake on `path` (without the query) is refused, or None."""
        return None if path == "/" else "WebSockets are served on / only."

    async def page(self, connection: Connection, path: str) -> tuple[HTTPStatus, dict[str, Any]] | None:
        """Return status and JSON body of a GET on a `path` that only this server has, or None.

        A body with `error` is sent as that text to clients that do not ask for JSON by name.
        """
        return None

    async def open(self, connection: Connection) -> None:
        """Take a new connection; its messages wait until this returns.

        Raises:
            CloseConnection: the connection cannot be served, with the code and the reason to close it.
        """

    @abstractmethod
    def receive(self, connection: Connection, message: bytes, text: bool) -> None:
        """Handle one whole message.

        Raises:
            CloseConnection: the message ends the connection.
        """

    def limited(self, connection: Connection, message: bytes, over: Over) -> bool:
        """Decide about a message over ``RATE_LIMIT`` or ``BYTE_RATE_LIMIT``.

        Returns:
            whether the message is to be handled all the same.
        """
        return True

    def slow(self, connection: Connection) -> None:
        """Deal with a client for which more than ``SLOW_CLIENT_BUFFER`` waits: close it, or send it less."""
        connection.disconnect(1013, "Too slow: too much is waiting to be read. Connect again.")

    def drained(self, connection: Connection) -> None:
        """Go on with a slow client that was not closed and has read what waited for it."""

    def close(self, connection: Connection) -> None:
        """Forget a connection, whatever ended it."""

    async def identify(self, connection: Connection, token: str) -> Identity:
        """Return whom a token proves that a client shows; a connection is one user's for good.

        Raises:
            AuthError: nobody, or not the user whose connection this is.
            CloseConnection: nobody, too often.
        """
        try:
            identity = await self.auth.identify(token, connection.address)
        except AuthError as error:
            connection.attempts += 1
            if connection.attempts >= ATTEMPTS:
                raise CloseConnection(1008, str(error)) from None
            raise
        if connection.identity is not None and identity.user != connection.identity.user:
            raise AuthError("This connection is another user's; open one of your own.")
        return identity

    def heartbeat(self, connection: Connection) -> bytes:
        """Return what a heartbeat's ping carries, in up to 125 bytes, for `pong` to be given when it was answered."""
        return b""

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Take note of a pong: if it answers a heartbeat, its client has all that was written before that."""

    def failure(self) -> str | None:
        """Return what keeps this server from its work, for ``/health`` to say with 503, or None."""
        return None

    @abstractmethod
    def health(self) -> dict[str, Any]:
        """Return what this server adds to ``/health``: numbers, never a name."""
