"""The application: what one server adds to the edge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from websockets.http11 import Request

from .auth.authenticator import ATTEMPTS, Authenticator
from .auth.identity import AuthError, Identity
from .data_files import DataFiles
from .errors import CloseConnection
from .http.request import HttpRequest
from .metrics import Labels, Metrics, gauges
from .refusals import Refusals
from .settings import EdgeSettings, numbers
from .websocket.connection import Connection
from .websocket.flow_control import EdgePause, ReadPause
from .websocket.handler import Handler, Host
from .websocket.large_messages import LargeMessages
from .websocket.registry import Connections

LARGE_MESSAGES = 67_108_864
"""Bytes of the large messages of all clients, where a server has no other bound for its memory."""


class Status(Enum):
    """Whether a server can do its work."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Something outside of this process is away; a restart would not bring it back."""
    FAILING = "failing"
    DRAINING = "draining"


ALIVE = (Status.HEALTHY, Status.DEGRADED)
"""With these, ``/health`` answers 200."""


class Trouble(NamedTuple):
    """The reason why a server cannot do its work.

    Attributes:
        reason: a sentence for the operator.
        outside: whether it is outside of this process, such as an outage of the database. A restart would not end
            it, so ``/health`` answers 200 and mentions it, and ``/ready`` answers 503.
    """

    reason: str
    outside: bool


class Application(Host[Connection]):
    """One server: its life from start to stop, its pages, and what handles its connections.

    Args:
        settings: of the server.
        version: of the package.
        max_message_size: bytes of the largest message that is read; 0 for any number.
        large_messages: bytes of the large messages of all clients that are read and not handled; 0 for any number.

    Attributes:
        auth: finds the user that a token proves.
        registry: the open connections.
        data_files: those of the store; None if it has none on this machine.
        certificate_end: when the certificate of `TLS_CERT` ends, in seconds since 1970; None without one.
        draining: whether the server is about to stop.

    Raises:
        SettingError: the settings for authentication contradict each other.
    """

    title: ClassVar[str]
    """The server's name for people, as the page on ``/`` shows it."""
    about: ClassVar[str]
    """The purpose of the server and its address, in a paragraph of plain text."""
    pages: ClassVar[tuple[str, ...]] = ("/", "/health", "/ready", "/metrics")
    """The paths that the server answers, as an answer to another path names them."""
    labels: ClassVar[Labels] = Labels()
    """The values of the labels of metrics that only this server has."""
    read_pauses: ClassVar[tuple[type[ReadPause], ...]] = (EdgePause,)
    """The reasons not to read from a client."""
    own_refusals: ClassVar[Mapping[str, str]] = {}
    """The codes of refusals that only this server has, with their reasons, see `refusals`."""

    def __init__(
        self, settings: EdgeSettings, version: str, max_message_size: int, large_messages: int = LARGE_MESSAGES
    ) -> None:
        self.settings = settings
        self.version = version
        self.max_message_size = max_message_size
        self.refusals = Refusals(self.own_refusals)
        self.metrics = Metrics(version, self._state_families, self.labels, self.refusals)
        self.registry: Connections[Connection] = Connections()
        self.large_messages = LargeMessages[Connection](large_messages)
        self.auth = Authenticator(settings, self.metrics.tokens)
        self.data_files: DataFiles | None = None
        self.certificate_end: float | None = None
        self.draining = False

    # Life

    async def start(self) -> None:
        """Open what the server needs before it listens.

        Raises:
            StartError: the server cannot start; nothing was changed.
        """

    def listening(self, port: int) -> None:
        """Take note of the port that the server listens on, before anything is accepted."""

    def drain(self) -> None:
        """Take note that the server is about to close every connection, and then to stop."""
        self.draining = True

    async def stop(self) -> None:
        """Flush and close; called when every connection has ended."""

    # HTTP

    def client_address(self, request: Request) -> str | None:
        """Return the client's address if another server of ours proves that it passes this request on, else None.

        That server has checked that the client may come over its network, and without TLS.
        """
        return None

    def refusal(self, path: str) -> str | None:
        """Return why a WebSocket handshake on `path` (without the query) is refused, or None."""
        return None if path == "/" else "WebSockets are served on / only."

    def accepts_post(self, path: str) -> bool:
        """Return whether a POST without a body on a path is for `page`; all others are answered with 405."""
        return False

    async def page(self, request: HttpRequest) -> tuple[HTTPStatus, dict[str, Any]] | None:
        """Return status and JSON body of a GET on a path that only this server has, or None. `pages` names the path.

        HEAD comes as GET does, and POST if `accepts_post` allows it.

        A body with `error` is sent as that text to clients that do not ask for JSON by name.
        """
        return None

    def trouble(self) -> Trouble | None:
        """Return what keeps this server from its work; None if nothing does."""
        return None

    def condition(self) -> tuple[Status, str | None]:
        """Return what ``/health``, ``/ready`` and the metrics say about the server's work, and the trouble it has."""
        trouble = self.trouble()
        reason = None if trouble is None else trouble.reason
        if self.draining:
            return Status.DRAINING, reason
        if trouble is None:
            return Status.HEALTHY, None
        return Status.DEGRADED if trouble.outside else Status.FAILING, reason

    @abstractmethod
    def health(self) -> dict[str, Any]:
        """Return what this server adds to ``/health``: numbers, never a name."""

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics that only this server has; called at every scrape."""
        return ()

    def _state_families(self) -> Iterable[Metric]:
        """Return the metrics that show how the server is now."""
        status, _ = self.condition()
        yield GaugeMetricFamily("opennoodl_healthy", "Whether /health answers 200.", int(status in ALIVE))
        yield GaugeMetricFamily("opennoodl_ready", "Whether /ready answers 200.", int(status is Status.HEALTHY))
        yield GaugeMetricFamily(
            "opennoodl_certificate_end_timestamp_seconds",
            "When the certificate in TLS_CERT ends; no sample without one.",
            self.certificate_end,
        )
        yield gauges("opennoodl_setting", "Settings that are numbers.", "setting", numbers(self.settings))
        paused = dict.fromkeys((reason.label for kind in self.read_pauses for reason in kind), 0)
        slow = 0
        for connection in self.registry:
            for reason in connection.read_pauses:
                paused[reason.label] += 1
            slow += connection.slow
        yield gauges("opennoodl_paused_clients", "Clients that are not read from, by reason.", "reason", paused)
        yield GaugeMetricFamily("opennoodl_slow_clients", "Clients with over SLOW_CLIENT_BUFFER unread.", slow)
        if self.data_files is not None:
            yield from self.data_files.families()
        yield from self.metric_families()

    # Connections

    @abstractmethod
    async def open(self, connection: Connection) -> Handler:
        """Accept a new connection; return what handles its messages, which wait until then.

        Raises:
            CloseConnection: the connection is refused, with the close code and the reason.
        """

    async def identify(self, connection: Connection, token: str) -> Identity:
        """Return the user that a client's token proves; a connection is one user's for good.

        Raises:
            AuthError: the token proves nobody, or not the user whose connection this is.
            CloseConnection: the client has shown too many tokens that prove nobody.
        """
        try:
            identity = await self.auth.identify(token, connection.address)
        except AuthError as error:
            if connection.count_failed_token() >= ATTEMPTS:
                raise CloseConnection(1008, str(error), error.refusal) from None
            raise
        if connection.identity is not None and identity.user != connection.identity.user:
            raise AuthError("This connection belongs to another user; open a new one.", "token-user")
        return identity
