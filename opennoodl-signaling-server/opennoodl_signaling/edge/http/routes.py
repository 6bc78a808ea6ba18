"""HTTP on the WebSocket's port: health, metrics, a word to people, and a clear no to the rest."""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from time import monotonic

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ..admission.client_address import ClientAddresses
from ..admission.origins import Origins
from ..application import Application
from ..auth.authenticator import OPEN
from ..settings import SettingError
from ..websocket.connection import Connection
from ..websocket.protocol import ALLOW

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
WATCHED = ("/health", "/metrics")
"""Pages for those who watch this server from near by, and seldom over TLS."""
# 403 and not 426, which would promise to go on with TLS in this very connection.
RETRY_AFTER = "10"
"""Seconds until a client that was answered 429 or 503 should ask again."""
METRICS_AGE = 1.0
"""Seconds for which the text of ``/metrics`` is shown again: with many connections it takes long to make."""
CHALLENGE = 'Bearer realm="opennoodl"'
"""How a client that is answered 401 proves its user (RFC 6750, 3)."""
_ABSOLUTE = re.compile(r"(?:http|ws)s?://[^/?#]+", re.IGNORECASE)
TLS_ONLY = "This server is reached over TLS only: use wss:// or https://.\n"


class Http:
    """Answers plain requests, and decides which handshakes go on.

    Args:
        app: whose health, metrics and paths are answered.
        version: of the package, for ``/health``.

    Attributes:
        addresses: how often and how many may come from where.

    Raises:
        SettingError: a setting of the door is wrong.
    """

    def __init__(self, app: Application, version: str) -> None:
        self.app = app
        self.version = version
        self.draining = False
        self.origins = Origins(app.settings.allowed_origins)
        settings = app.settings
        self.addresses = ClientAddresses(settings)
        self._tls_only = settings.require_wss and not settings.tls_cert  # with a certificate, nothing else is heard
        if self._tls_only and not settings.trusted_proxies:
            raise SettingError(
                "REQUIRE_WSS is true, which nobody can meet without TLS_CERT or TRUSTED_PROXIES; set one"
            )
        self._started = monotonic()
        self._metrics, self._metrics_until = b"", 0.0

    async def request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to `request`, or None when it is a handshake to go on with."""
        assert isinstance(connection, Connection)
        origins = request.headers.get_all("Origin")
        connection.protocol.cors = self.origins.headers(origins)
        connection.address = self.addresses.client(connection.peer, request.headers)
        response = await self._answer(connection, request, origins)
        if response is not None:
            if response.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                response.headers["Retry-After"] = RETRY_AFTER
            elif response.status_code == HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    async def _answer(self, connection: Connection, request: Request, origins: Sequence[str]) -> Response | None:
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            response = connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, f"This server answers {ALLOW}.\n")
            response.headers["Allow"] = ALLOW
            return response
        target = origin_form(request)
        if target is None:
            text = "The target of a request must be a path that begins with a slash, or an http or ws URL.\n"
            return connection.respond(HTTPStatus.BAD_REQUEST, text)
        request.path = target
        connection.path = path = target.partition("?")[0]
        if request.method == "OPTIONS":
            response = connection.respond(HTTPStatus.NO_CONTENT, "")
            del response.headers["Content-Type"], response.headers["Content-Length"]
            return response
        plain = self._tls_only and not self.addresses.secure(connection.peer, request.headers)
        if any(value.strip().lower() == "websocket" for value in request.headers.get_all("Upgrade")):
            return self._handshake(connection, path, origins, plain=plain)
        # Platforms end a server whose health they cannot see.
        if path != "/health" and not self.addresses.allow_request(connection.address, monotonic()):
            response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests from your address.\n")
        elif plain and path not in WATCHED:
            response = connection.respond(HTTPStatus.FORBIDDEN, TLS_ONLY)
        else:
            response = await self._page(connection, path)
        if request.method == "HEAD":
            response.body = b""  # Content-Length keeps saying what GET would send
        return response

    def response(self, connection: ServerConnection, _request: Request, response: Response) -> None:
        """Count a handshake that websockets refused."""
        if connection.protocol.accept_called and response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self.app.metrics.handshakes["invalid"] += 1

    def _handshake(self, connection: Connection, path: str, origins: Sequence[str], *, plain: bool) -> Response | None:
        metrics, limit = self.app.metrics, self.app.settings.max_connections
        if not self.addresses.allow_handshake(connection.address, monotonic()):
            metrics.handshakes["address"] += 1
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many handshakes from your address.\n")
        if plain:
            metrics.handshakes["insecure"] += 1
            return connection.respond(HTTPStatus.FORBIDDEN, TLS_ONLY)
        if self.draining:
            metrics.handshakes["draining"] += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "This server is shutting down.\n")
        if limit and metrics.open_connections >= limit:
            metrics.handshakes["at-capacity"] += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "This server is full; try again later.\n")
        if not self.origins.allow(origins):
            metrics.handshakes["origin"] += 1
            return connection.respond(HTTPStatus.FORBIDDEN, "This server is not for pages of this origin.\n")
        refusal = self.app.refusal(path)
        if refusal is not None:
            metrics.handshakes["refused"] += 1
            return connection.respond(HTTPStatus.NOT_FOUND, refusal + "\n")
        if not self.addresses.acquire(connection.address):
            metrics.handshakes["address"] += 1
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many connections from your address.\n")
        connection.when_lost(partial(self.addresses.release, connection.address))
        return None

    async def _page(self, connection: Connection, path: str) -> Response:
        if path == "/health":
            failure = self.app.failure()
            health = {
                "status": "draining" if self.draining else "failing" if failure else "healthy",
                "version": self.version,
                "uptime": int(monotonic() - self._started),
                **({"reason": failure} if failure else {}),
                **({} if self.app.auth.required else {"warning": OPEN}),
                **self.app.health(),
            }
            status = HTTPStatus.OK if health["status"] == "healthy" else HTTPStatus.SERVICE_UNAVAILABLE
            return self._typed(connection, status, msgspec.json.encode(health), JSON)
        if path == "/metrics":
            return self._typed(connection, HTTPStatus.OK, self._metrics_text(), METRICS)
        answer = await self.app.page(connection, path)
        if answer is not None:
            status, fields = answer
            if "error" in fields and not _accepts_json(connection):
                return self._typed(connection, status, f"{fields['error']}\n".encode(), TEXT)
            return self._typed(connection, status, msgspec.json.encode(fields), JSON)
        if path == "/":
            text = f"{self.app.title} {self.version}\n\n{self.app.about}\n\nMore: /health and /metrics\n"
            return connection.respond(HTTPStatus.OK, text)
        return connection.respond(HTTPStatus.NOT_FOUND, "There is only /, /health and /metrics here.\n")

    def _metrics_text(self) -> bytes:
        if monotonic() >= self._metrics_until:
            self.app.metrics.tasks = len(asyncio.all_tasks())
            self._metrics = self.app.metrics.text()
            self._metrics_until = monotonic() + METRICS_AGE
        return self._metrics

    def _typed(self, connection: Connection, status: HTTPStatus, body: bytes, kind: str) -> Response:
        response = connection.respond(status, "")
        response.body = body
        del response.headers["Content-Type"], response.headers["Content-Length"]
        response.headers.update({"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"})
        return response


def _accepts_json(connection: Connection) -> bool:
    """Return whether a request asks for JSON by name, and not for anything as browsers' `fetch` does."""
    assert connection.request is not None
    ranges = ",".join(connection.request.headers.get_all("Accept")).split(",")
    return any(range_.partition(";")[0].strip().lower() == JSON for range_ in ranges)


def origin_form(request: Request) -> str | None:
    """Return the path and the query that a request asks for, or None if its target is no valid one (RFC 9112, 3.2).

    Clients send the absolute form to proxies, and a server must accept it as well.
    """
    target = request.path
    if target == "*" and request.method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    return target if target.startswith("/") and "#" not in target else None
