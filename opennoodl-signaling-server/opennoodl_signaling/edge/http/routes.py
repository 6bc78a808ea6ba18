"""The routes: ``/``, ``/health``, ``/ready``, ``/metrics``, and the pages of the application."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic

import msgspec
from websockets.http11 import Response

from ..application import Application
from ..auth.authenticator import OPEN
from ..websocket.connection import Connection

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
DRAINING = "This server is shutting down."
METRICS_AGE = 1.0
"""Seconds for which the text of ``/metrics`` is shown again: with many connections it takes long to make."""


class Routes:
    """Answers requests for pages.

    Args:
        app: whose pages are served.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._draining = False
        self._started = monotonic()
        self._metrics, self._metrics_until = b"", 0.0

    def drain(self) -> None:
        """Say in ``/health`` and ``/ready`` that the server stops."""
        self._draining = True

    async def page(self, connection: Connection, path: str) -> Response:
        """Return the answer to a GET on `path`."""
        if path == "/health":
            return self._health(connection)
        if path == "/ready":
            return self._ready(connection)
        if path == "/metrics":
            return _typed(connection, HTTPStatus.OK, self._metrics_text(), METRICS)
        answer = await self._app.page(connection, path)
        if answer is not None:
            status, fields = answer
            if "error" in fields and not _accepts_json(connection):
                return _typed(connection, status, f"{fields['error']}\n".encode(), TEXT)
            return _typed(connection, status, msgspec.json.encode(fields), JSON)
        if path == "/":
            text = f"{self._app.title} {self._app.version}\n\n{self._app.about}\n\nMore: /health, /ready and /metrics\n"
            return connection.respond(HTTPStatus.OK, text)
        *others, last = self._app.pages
        return connection.respond(HTTPStatus.NOT_FOUND, f"Not found. This server has {', '.join(others)} and {last}.\n")

    def _health(self, connection: Connection) -> Response:
        failure, outage = self._app.failure(), self._app.outage()
        status, code = "healthy", HTTPStatus.OK
        if self._draining:
            status, code = "draining", HTTPStatus.SERVICE_UNAVAILABLE
        elif failure:
            status, code = "failing", HTTPStatus.SERVICE_UNAVAILABLE
        elif outage:
            status = "degraded"
        reason = failure or outage
        health = {
            "status": status,
            "version": self._app.version,
            "uptime": int(monotonic() - self._started),
            **({"reason": reason} if reason else {}),
            **({} if self._app.auth.required else {"warning": OPEN}),
            **self._app.health(),
        }
        return _typed(connection, code, msgspec.json.encode(health), JSON)

    def _ready(self, connection: Connection) -> Response:
        reason = DRAINING if self._draining else self._app.failure() or self._app.outage()
        if reason is None:
            return _typed(connection, HTTPStatus.OK, msgspec.json.encode({"ready": True}), JSON)
        body = msgspec.json.encode({"ready": False, "reason": reason})
        return _typed(connection, HTTPStatus.SERVICE_UNAVAILABLE, body, JSON)

    def _metrics_text(self) -> bytes:
        if monotonic() >= self._metrics_until:
            self._metrics = self._app.metrics.text(tasks=len(asyncio.all_tasks()))
            self._metrics_until = monotonic() + METRICS_AGE
        return self._metrics


def _typed(connection: Connection, status: HTTPStatus, body: bytes, kind: str) -> Response:
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
