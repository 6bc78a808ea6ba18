"""HTTP on the port of the WebSockets: each request goes to the handshakes or to the routes, or is refused."""

from __future__ import annotations

import re
from http import HTTPStatus
from time import monotonic

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ..admission.client_address import ClientAddresses
from ..admission.origins import Origins
from ..application import Application
from ..settings import SettingError
from ..websocket.connection import Connection
from ..websocket.protocol import ALLOW
from .handshake import Handshakes
from .routes import Routes

WATCHED = ("/health", "/ready", "/metrics")
"""Pages that are answered without TLS as well: monitoring asks for them from nearby, and seldom over TLS."""
UNLIMITED = ("/health", "/ready")
"""Pages that any number of requests may ask for: platforms and load balancers act on a missing answer."""
RETRY_AFTER = "10"
"""Seconds until a client that was answered 429 or 503 should ask again."""
CHALLENGE = 'Bearer realm="opennoodl"'
"""How a client that is answered 401 proves its user (RFC 6750, 3)."""
TLS_ONLY = "This server is reached over TLS only: use wss:// or https://.\n"
_ABSOLUTE = re.compile(r"(?:http|ws)s?://[^/?#]+", re.IGNORECASE)


class Http:
    """Answers plain requests, and decides which handshakes are accepted.

    Args:
        app: whose pages and paths are served.

    Attributes:
        addresses: the limits of each address.
        origins: the allowed web pages.
        draining: whether the server stops.

    Raises:
        SettingError: a setting of admission is wrong.
    """

    def __init__(self, app: Application) -> None:
        settings = app.settings
        self.addresses = ClientAddresses(settings)
        self.origins = Origins(settings.allowed_origins)
        self.draining = False
        self._handshakes = Handshakes(app, self.addresses, self.origins)
        self._routes = Routes(app)
        self._tls_only = settings.require_wss and not settings.tls_cert  # with a certificate, all is TLS already
        if self._tls_only and not settings.trusted_proxies:
            raise SettingError("REQUIRE_WSS is true, but neither TLS_CERT nor TRUSTED_PROXIES is set; set one")

    def drain(self) -> None:
        """Refuse handshakes from now on, and say in ``/health`` and ``/ready`` that the server stops."""
        self.draining = True
        self._handshakes.drain()
        self._routes.drain()

    async def request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to `request`, or None when it is a handshake that is accepted."""
        assert isinstance(connection, Connection)
        origins = request.headers.get_all("Origin")
        connection.protocol.set_cors(self.origins.headers(origins))
        connection.set_address(self.addresses.client(connection.peer, request.headers))
        response = await self._answer(connection, request)
        if response is not None:
            if response.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                response.headers["Retry-After"] = RETRY_AFTER
            elif response.status_code == HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    def response(self, connection: ServerConnection, _request: Request, response: Response) -> None:
        """Count a handshake that websockets refused."""
        if connection.protocol.accept_called and response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._handshakes.count_invalid()

    async def _answer(self, connection: Connection, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            response = connection.respond(
                HTTPStatus.METHOD_NOT_ALLOWED, f"Method not allowed. This server answers {ALLOW}.\n"
            )
            response.headers["Allow"] = ALLOW
            return response
        target = origin_form(request)
        if target is None:
            text = "The target of a request must be a path that begins with a slash, or an http or ws URL.\n"
            return connection.respond(HTTPStatus.BAD_REQUEST, text)
        request.path = target
        path = target.partition("?")[0]
        connection.set_path(path)
        if request.method == "OPTIONS":
            response = connection.respond(HTTPStatus.NO_CONTENT, "")
            del response.headers["Content-Type"], response.headers["Content-Length"]
            return response
        # 403 and not 426, which would promise to go on with TLS in this very connection.
        plain = self._tls_only and not self.addresses.secure(connection.peer, request.headers)
        insecure = connection.respond(HTTPStatus.FORBIDDEN, TLS_ONLY) if plain else None
        if any(value.strip().lower() == "websocket" for value in request.headers.get_all("Upgrade")):
            return self._handshakes.refusal(connection, request, insecure)
        if path not in UNLIMITED and not self.addresses.allow_request(connection.address, monotonic()):
            response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests from your address.\n")
        elif insecure is not None and path not in WATCHED:
            response = insecure
        else:
            response = await self._routes.page(connection, path)
        if request.method == "HEAD":
            response.body = b""  # Content-Length keeps saying what GET would send
        return response


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
