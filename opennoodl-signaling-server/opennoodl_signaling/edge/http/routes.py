"""The routes: ``/``, ``/health``, ``/ready``, ``/metrics``, and the pages of the application."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic

import msgspec
from websockets.http11 import Response

from ..application import ALIVE, Application, Status
from ..auth.authenticator import OPEN
from .request import HttpRequest

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
DRAINING = "This server is shutting down."
METRICS_AGE = 1.0
"""Seconds for which the text of ``/metrics`` is reused: with many connections it takes long to make."""


class Routes:
    """Answers requests for pages.

    Args:
        app: has the state of the server, and pages of its own.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._started = monotonic()
        self._metrics, self._metrics_until = b"", 0.0

    async def page(self, request: HttpRequest) -> Response:
        """Return the answer to a GET."""
        path = request.path
        if path == "/health":
            return self._health(request)
        if path == "/ready":
            return self._ready(request)
        if path == "/metrics":
            return request.protocol.respond(HTTPStatus.OK, self._metrics_text(), METRICS)
        answer = await self._app.page(request)
        if answer is not None:
            status, fields = answer
            if "error" in fields and not _accepts_json(request):
                return request.protocol.respond(status, f"{fields['error']}\n".encode(), TEXT)
            return request.protocol.respond(status, msgspec.json.encode(fields), JSON)
        if path == "/":
            text = f"{self._app.title} {self._app.version}\n\n{self._app.about}\n\nMore: /health, /ready and /metrics\n"
            return request.protocol.reject(HTTPStatus.OK, text)
        *others, last = self._app.pages
        text = f"Not found. This server has {', '.join(others)} and {last}.\n"
        return request.protocol.reject(HTTPStatus.NOT_FOUND, text)

    def _health(self, request: HttpRequest) -> Response:
        status, reason = self._app.condition()
        code = HTTPStatus.OK if status in ALIVE else HTTPStatus.SERVICE_UNAVAILABLE
        health = {
            "status": status.value,
            "version": self._app.version,
            "uptime": int(monotonic() - self._started),
            **({"reason": reason} if reason else {}),
            **({} if self._app.auth.required else {"warning": OPEN}),
            **({"loadTest": True} if self._app.settings.allow_load_test else {}),
            **self._app.health(),
        }
        return request.protocol.respond(code, msgspec.json.encode(health), JSON)

    def _ready(self, request: HttpRequest) -> Response:
        status, reason = self._app.condition()
        if status is Status.HEALTHY:
            return request.protocol.respond(HTTPStatus.OK, msgspec.json.encode({"ready": True}), JSON)
        body = msgspec.json.encode({"ready": False, "reason": DRAINING if status is Status.DRAINING else reason})
        return request.protocol.respond(HTTPStatus.SERVICE_UNAVAILABLE, body, JSON)

    def _metrics_text(self) -> bytes:
        if monotonic() >= self._metrics_until:
            self._metrics = self._app.metrics.text(tasks=len(asyncio.all_tasks()))
            self._metrics_until = monotonic() + METRICS_AGE
        return self._metrics


def _accepts_json(request: HttpRequest) -> bool:
    """Return whether the header Accept names JSON. Browsers' `fetch` accepts anything by default."""
    ranges = ",".join(request.head.headers.get_all("Accept")).split(",")
    return any(range_.partition(";")[0].strip().lower() == JSON for range_ in ranges)
