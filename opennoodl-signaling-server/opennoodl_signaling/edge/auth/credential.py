"""The credential: the token that a client sends with its handshake or its request for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..http.query import value

if TYPE_CHECKING:
    from websockets.http11 import Request

TOKEN_PROTOCOL = "opennoodl.token."  # noqa: S105  # a name, and no token
"""The prefix of a subprotocol that carries a token. The server selects it only if the client offers no other."""


def credential(request: Request) -> str | None:
    """Return the token of a request; None if it has none.

    The token is a bearer token, part of a subprotocol, or ``token`` in the query. The first of these counts.
    """
    for header in request.headers.get_all("Authorization"):
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    for protocol in ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).split(","):
        name = protocol.strip()
        if name.startswith(TOKEN_PROTOCOL):
            return name.removeprefix(TOKEN_PROTOCOL)
    return value(request.path, "token")
