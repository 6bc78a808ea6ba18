"""The handshake: which WebSocket handshakes are accepted, and why one is refused."""

from __future__ import annotations

from http import HTTPStatus
from time import monotonic

from websockets.http11 import Response

from ..admission.address_limits import AddressLimits
from ..admission.origins import Origins
from ..application import Application
from .request import HttpRequest


class Handshakes:
    """Accepts and refuses handshakes; logs and counts the refused ones.

    Args:
        app: decides about paths, and has the settings.
        limits: the limits of each address.
        origins: the allowed web pages.
    """

    def __init__(self, app: Application, limits: AddressLimits, origins: Origins) -> None:
        self._app = app
        self._limits = limits
        self._origins = origins

    def note(self, code: str, request: HttpRequest, response: Response) -> None:
        """Log and count a refused handshake, with the code of the refusal and the response."""
        self._app.refusals.note(code, request.address, request.number, status=response.status_code)

    def refusal(self, request: HttpRequest, insecure: Response | None) -> Response | None:
        """Return the response that refuses a handshake. If it is accepted, count it for its address and return None.

        Args:
            request: the handshake.
            insecure: the response to a client without TLS if TLS is required, else None.
        """
        found = self._find_refusal(request, insecure)
        if found is None:
            return None
        code, response = found
        self.note(code, request, response)
        return response

    def _find_refusal(self, request: HttpRequest, insecure: Response | None) -> tuple[str, Response] | None:
        respond, limit = request.protocol.reject, self._app.settings.max_connections
        if not self._limits.allow_handshake(request.address, monotonic()):
            return "handshake-rate", respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many handshakes from your address.\n")
        if insecure is not None:
            return "insecure", insecure
        if self._app.draining:
            return "draining", respond(HTTPStatus.SERVICE_UNAVAILABLE, "This server is shutting down.\n")
        if limit and self._app.metrics.open_connections >= limit:
            text = "MAX_CONNECTIONS is reached; try again later.\n"
            return "at-capacity", respond(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if not self._origins.allow(request.head.headers.get_all("Origin")):
            return "origin", respond(HTTPStatus.FORBIDDEN, "This origin is not in ALLOWED_ORIGINS.\n")
        refusal = self._app.refusal(request.path)
        if refusal is not None:
            return "path", respond(HTTPStatus.NOT_FOUND, refusal + "\n")
        if not self._limits.acquire(request.address):
            return "address", respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many connections from your address.\n")
        return None
