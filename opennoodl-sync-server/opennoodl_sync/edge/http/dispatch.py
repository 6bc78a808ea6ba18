"""HTTP on the port of the WebSockets: passes each request to the handshakes or the routes, or refuses it."""

from __future__ import annotations

import re
from http import HTTPStatus
from time import monotonic

from websockets.http11 import Request, Response

from ..admission.address_limits import AddressLimits
from ..admission.client_address import ClientAddresses
from ..admission.origins import Origins
from ..application import Application
from ..settings import SettingError
from ..websocket.protocol import ALLOW, EdgeProtocol
from .handshake import Handshakes
from .request import HttpRequest
from .routes import Routes

WATCHED = ("/health", "/ready", "/metrics")
"""Pages that need no TLS: monitoring requests them from nearby, and seldom over TLS."""
UNLIMITED = ("/health", "/ready")
"""Pages without a limit of requests: platforms and load balancers act on a missing answer."""
TLS_ONLY = "This server is reached over TLS only: use wss:// or https://.\n"
_ABSOLUTE = re.compile(r"(?:http|ws)s?://[^/?#]+", re.IGNORECASE)


class Http:
    """Answers plain requests, and decides which handshakes are accepted.

    Args:
        app: whose pages and paths are served.

    Attributes:
        addresses: find the address of each client.
        limits: the limits of each address.
        origins: the allowed web pages.

    Raises:
        SettingError: a setting of admission is wrong.
    """

    def __init__(self, app: Application) -> None:
        settings = app.settings
        self.addresses = ClientAddresses(settings)
        self.limits = AddressLimits(settings)
        self.origins = Origins(settings.allowed_origins)
        self._app = app
        self._handshakes = Handshakes(app, self.limits, self.origins)
        self._routes = Routes(app)
        self._tls_only = settings.require_wss and not settings.tls_cert  # with a certificate, each connection has TLS
        if self._tls_only and not settings.trusted_proxies:
            raise SettingError("REQUIRE_WSS is true, but neither TLS_CERT nor TRUSTED_PROXIES is set; set one")

    async def answer(self, peer: str, protocol: EdgeProtocol, head: Request, number: int) -> Response | HttpRequest:
        """Return the response to a request, or the request itself if it is a handshake that is accepted.

        If it is accepted, `accept` must follow, and `release` when the TCP connection has ended.

        Args:
            peer: the other end of the TCP connection; empty if it was gone already.
            protocol: of the TCP connection.
            head: the request.
            number: of the TCP connection, for the log.
        """
        target = origin_form(head)
        protocol.set_cors(self.origins.headers(head.headers.get_all("Origin")))
        posted = head.method == "POST" and self._app.accepts_post(head.path.partition("?")[0])
        if head.method not in ("GET", "HEAD", "OPTIONS") and not posted:
            text = f"Method not allowed. This server answers {ALLOW}.\n"
            response = protocol.reject(HTTPStatus.METHOD_NOT_ALLOWED, text)
            response.headers["Allow"] = ALLOW
            return response
        if target is None:
            text = "The target of a request must be a path that begins with a slash, or an http or ws URL.\n"
            return protocol.reject(HTTPStatus.BAD_REQUEST, text)
        head.path = target
        passed_on = self._app.client_address(head)
        path, address = target.partition("?")[0], passed_on or self.addresses.client(peer, head.headers)
        request = HttpRequest(head, path, address, protocol, number)
        if head.method == "OPTIONS":
            response = protocol.reject(HTTPStatus.NO_CONTENT, "")
            del response.headers["Content-Type"], response.headers["Content-Length"]
            return response
        # 403 and not 426, which would promise to continue with TLS in this connection.
        plain = self._tls_only and passed_on is None and not self.addresses.secure(peer, head.headers)
        insecure = protocol.reject(HTTPStatus.FORBIDDEN, TLS_ONLY) if plain else None
        if "websocket" in map(str.lower, map(str.strip, head.headers.get_all("Upgrade"))):
            return self._handshakes.refusal(request, insecure) or request
        if path not in UNLIMITED and not self.limits.allow_request(address, monotonic()):
            response = protocol.reject(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests from your address.\n")
        elif insecure is not None and path not in WATCHED:
            response = insecure
        else:
            response = await self._routes.page(request)
        # Proxies that remove Upgrade pass on the other headers of a handshake (RFC 9110, 7.6.1).
        if "Sec-WebSocket-Key" in head.headers:
            self._handshakes.note("no-upgrade", request, response)
        if head.method == "HEAD":
            response.body = b""  # Content-Length is still that of GET
        return response

    def accept(self, request: HttpRequest) -> Response:
        """Return the response to an accepted handshake. It refuses a handshake that is invalid."""
        response = request.protocol.accept(request.head)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._handshakes.note("invalid", request, response)
        return response

    def release(self, request: HttpRequest) -> None:
        """Stop counting the connection of an accepted handshake, whose TCP connection has ended."""
        self.limits.release(request.address)


def origin_form(head: Request) -> str | None:
    """Return the path and the query of a request, or None if its target is invalid (RFC 9112, 3.2).

    Clients send the absolute form to proxies, and a server must accept it as well.
    """
    target = head.path
    if target == "*" and head.method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    return target if target.startswith("/") and "#" not in target else None
