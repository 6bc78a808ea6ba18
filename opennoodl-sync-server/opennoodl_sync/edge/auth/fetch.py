"""Fetching: what a URL answers, within a time and a size.

The proxy that ``http_proxy`` or ``https_proxy`` names is used, unless ``no_proxy`` names the host.

The timeout of a socket begins anew with every byte, so whoever sends one now and then could hold its reader forever.
"""

from __future__ import annotations

import io
import socket
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener


def fetch(url: str, seconds: float, most: int) -> bytes:
    """Return the body of what a URL answers, if it succeeds; to be called in a thread.

    Args:
        url: of http or https.
        seconds: for the whole answer, once there is a connection; making one has as many for each of the addresses.
        most: bytes of the body.

    Raises:
        OSError: it does not, or not in time.
        http.client.HTTPException: it is no HTTP.
        ValueError: it is too large, or the URL cannot be asked.
    """
    opener = build_opener(_Hurried(monotonic() + seconds), _Stays)
    try:
        with opener.open(Request(url), timeout=seconds) as response:  # noqa: S310  # of http or https
            body: bytes = response.read(most + 1)
    except HTTPError as error:
        error.close()
        raise
    if len(body) > most:
        raise ValueError(f"the answer is larger than {most} bytes")
    return body


class _Reader(io.RawIOBase):
    """Reads from a socket until a time of `monotonic`."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, until: float) -> None:
        self._sock = sock
        self._raw = raw
        self._until = until

    def readable(self) -> bool:
        """Say that this is for reading."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is, or wait for it."""
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _Hurried(HTTPHandler, HTTPSHandler):
    """Opens URLs whose answers have to be there by a time of `monotonic`."""

    def __init__(self, until: float) -> None:
        super().__init__()

        class Response(HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
                super().__init__(sock, *args, **options)
                self.fp = io.BufferedReader(_Reader(sock, self.fp.detach(), until))

        class Http(HTTPConnection):
            response_class = Response

        class Https(HTTPSConnection):
            response_class = Response

        self._http, self._https = Http, Https

    def http_open(self, req: Request) -> HTTPResponse:
        """Ask by HTTP."""
        return self.do_open(self._http, req)

    def https_open(self, req: Request) -> HTTPResponse:
        """Ask by HTTPS."""
        return self.do_open(self._https, req)


class _Stays(HTTPRedirectHandler):
    """Follows no redirect: what is asked is what was set."""

    def redirect_request(self, *_: Any) -> None:
        """Go nowhere."""
