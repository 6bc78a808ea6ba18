"""The routes: ``/``, ``/health``, ``/ready``, ``/metrics``, and the pages of the application."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic

import msgspec
from websockets.http11 import Response

from ..application import Application, Status
from ..auth.authenticator import OPEN
from .request import HttpRequest

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
            return _typed(request, HTTPStatus.OK, self._metrics_text(), METRICS)
        answer = await self._app.page(request)
        if answer is not None:
            status, fields = answer
            if "error" in fields and not _accepts_json(request):
                return _typed(request, status, f"{fields['error']}\n".encode(), TEXT)
            return _typed(request, status, msgspec.json.encode(fields), JSON)
        if path == "/":
            text = f"{self._app.title} {self._app.version}\n\n{self._app.about}\n\nMore: /health, /ready and /metrics\n"
            return request.respond(HTTPStatus.OK, text)
        *others, last = self._app.pages
        return request.respond(HTTPStatus.NOT_FOUND, f"Not found. This server has {', '.join(others)} and {last}.\n")

    def _health(self, request: HttpRequest) -> Response:
        status = self._app.status
        code = HTTPStatus.OK if status.is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
        reason = self._app.failure() or self._app.outage()
        health = {
            "status": status.value,
            "version": self._app.version,
            "uptime": int(monotonic() - self._started),
            **({"reason": reason} if reason else {}),
            **({} if self._app.auth.required else {"warning": OPEN}),
            **({"loadTest": True} if self._app.settings.allow_load_test else {}),
            **self._app.health(),
        }
        return _typed(request, code, msgspec.json.encode(health), JSON)

    def _ready(self, request: HttpRequest) -> Response:
        if self._app.status is Status.HEALTHY:
            return _typed(request, HTTPStatus.OK, msgspec.json.encode({"ready": True}), JSON)
        reason = DRAINING if self._app.draining else self._app.failure() or self._app.outage()
        body = msgspec.json.encode({"ready": False, "reason": reason})
        return _typed(request, HTTPStatus.SERVICE_UNAVAILABLE, body, JSON)

    def _metrics_text(self) -> bytes:
        if monotonic() >= self._metrics_until:
            self._metrics = self._app.metrics.text(tasks=len(asyncio.all_tasks()))
            self._metrics_until = monotonic() + METRICS_AGE
        return self._metrics


def _typed(request: HttpRequest, status: HTTPStatus, body: bytes, kind: str) -> Response:
    response = request.respond(status, "")
    response.body = body
    del response.headers["Content-Type"], response.headers["Content-Length"]
    response.headers.update({"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"})
    return response


def _accepts_json(request: HttpRequest) -> bool:
    """Return whether a request asks for JSON by name, and not for anything as browsers' `fetch` does."""
    ranges = ",".join(request.head.headers.get_all("Accept")).split(",")
    return any(range_.partition(";")[0].strip().lower() == JSON for range_ in ranges)
