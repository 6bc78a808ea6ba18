"""A request: what a client asks for, and where the client is."""

from __future__ import annotations

from typing import NamedTuple

from websockets.http11 import Request

from ..websocket.protocol import EdgeProtocol


class HttpRequest(NamedTuple):
    """One request.

    Attributes:
        head: its line and its headers.
        path: without the query, as it was sent (not percent-decoded).
        address: where the client is, as far as its proxies are trusted.
        protocol: makes the response.
        number: of the TCP connection, for the log.
    """

    head: Request
    path: str
    address: str
    protocol: EdgeProtocol
    number: int
