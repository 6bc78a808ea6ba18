"""A request, with the address of its client."""

from __future__ import annotations

from typing import NamedTuple

from websockets.http11 import Request

from ..websocket.protocol import EdgeProtocol


class HttpRequest(NamedTuple):
    """One request.

    Attributes:
        head: the request line and the headers.
        path: the path without the query, as it was sent (not percent-decoded).
        address: the address of the client; trusted proxies report it.
        protocol: makes the response.
        number: of the TCP connection, for the log.
    """

    head: Request
    path: str
    address: str
    protocol: EdgeProtocol
    number: int
