"""Refusals: the reasons why clients could not connect or were disconnected, as log lines and as a metric.

Any client can cause any number of refusals. So each one is counted, and the log lines are limited, in total and for
each address. One further line has the number of missing lines. A line contains no text that a client has sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from time import monotonic

import structlog

from .admission.address_limits import rate_limit_key
from .limits import Quota

WINDOW = 10.0
"""Seconds in which the lines are limited."""
MAX_LINES = 50
"""Lines in one window."""
MAX_LINES_OF_ONE = 10
"""Lines in one window about one address, so that one client does not hide the others."""

EVENT = "client refused"
LEFT_OUT = "refused clients were left out of the log"

HANDSHAKES = {
    "timeout": "no complete handshake within ten seconds",
    "pending-full": "too many connections without a finished handshake: the oldest was cut",
    "tls-failed": "the TLS handshake failed; `detail` says why",
    "http-to-tls": "HTTP to a port with TLS: use https:// or wss://",
    "tls-to-http": "TLS to a port without TLS: use http:// or ws://, or set TLS_CERT",
    "headers-too-large": "the request line and headers are too large",
    "bad-request": "not a valid HTTP/1.1 request",
    "no-upgrade": "a WebSocket handshake without its header Upgrade, which a proxy has removed",
    "handshake-rate": "the address is over HANDSHAKE_RATE_LIMIT",
    "insecure": "not over TLS, and REQUIRE_WSS is set",
    "draining": "the server is shutting down",
    "at-capacity": "MAX_CONNECTIONS is reached",
    "origin": "the origin is not in ALLOWED_ORIGINS",
    "path": "the server has no such path, or it lacks the PATH_PREFIX or the room",
    "address": "the address has MAX_CONNECTIONS_PER_IP connections",
    "invalid": "not a valid WebSocket handshake",
}
"""Refusals before the WebSocket is open, by code. The codes are also outcomes of handshakes in the metrics."""

TOKENS = {
    "token-missing": "no token, and AUTH is set",
    "token-invalid": "the token is malformed, lacks a claim, or is not known to GitHub",
    "token-expired": "the token has expired, before or after the client connected",
    "token-not-yet-valid": "the token is not valid yet",
    "token-signature": "the token is not signed with the key of this server",
    "token-audience": "the token has another `iss` or `aud` than AUTH_ISSUER or AUTH_AUDIENCE",
    "token-user": "the token belongs to another user than the connection or its `userId`",
    "token-room": "the token is not for this room",
    "token-access": "the token allows only reading",
    "auth-unavailable": "the token cannot be checked: GitHub or the issuer does not answer, or asks to wait",
}
"""Refusals of tokens, by code."""

CONNECTIONS = {
    "authentication-timeout": "the client has not authenticated within ten seconds",
    "heartbeat": "the client was silent for two heartbeats",
    "protocol-error": "not a valid WebSocket frame",
    "wrong-message-kind": "a message that the server cannot read, as of another protocol",
    "invalid-utf-8": "a text message was not UTF-8",
    "policy": "the client was closed with 1008 for another reason, which its close frame says",
    "message-too-large": "a message over MAX_MESSAGE_SIZE, or in sync over a sixteenth of MAX_MEMORY",
    "rate-limit": "the client kept sending over RATE_LIMIT or BYTE_RATE_LIMIT",
    "slow-client": "more than SLOW_CLIENT_BUFFER waits for the client, or that of all clients is too much",
    "messages-full": "the large messages of all clients take too much memory, or this one arrives too slowly",
    "server-error": "the server failed: see the error before or after this line",
    "overloaded": "the server was out of a resource, which the close frame names",
}
"""Reasons of closed WebSockets, by code."""

EDGE = HANDSHAKES | TOKENS | CONNECTIONS
"""Every code that all servers have, with the reason in the log."""

OF_CLOSE_CODE = {
    1002: "protocol-error",
    1003: "wrong-message-kind",
    1007: "invalid-utf-8",
    1008: "policy",
    1009: "message-too-large",
    1011: "server-error",
    1013: "overloaded",
}
"""The default code for each close code. Close codes that are missing here are no refusal."""

log = structlog.get_logger()


class Refusals:
    """Counts refusals, and logs them.

    Args:
        own: the codes that only this server has, with their reasons.

    Attributes:
        reasons: the reasons by code.
        counts: the number of refusals by code.
    """

    def __init__(self, own: Mapping[str, str]) -> None:
        self.reasons: Mapping[str, str] = {**EDGE, **own}
        self.counts = Counter(dict.fromkeys(self.reasons, 0))
        self._lines = Quota(MAX_LINES, WINDOW)
        self._lines_of_one = Quota(MAX_LINES_OF_ONE, WINDOW)
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, code: str, address: str, connection: int | None = None, **details: str | int) -> None:
        """Count a refusal, and log it within the limits.

        Args:
            code: one of `reasons`.
            address: the client's address; empty if it is not known.
            connection: the number of the connection; None if the client has sent nothing yet.
            details: further fields for the line, without any text that a client has sent.
        """
        self.counts[code] += 1
        now = monotonic()
        if self._lines.has("", now) and self._lines_of_one.allow(rate_limit_key(address), now):
            self._lines.count("", now)
            known = {"address": address, "connection": connection} | details
            present = {name: value for name, value in known.items() if value not in (None, "")}
            log.info(EVENT, code=code, reason=self.reasons[code], **present)
            return
        self._left_out += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW, self.summarize)

    def summarize(self) -> None:
        """Log the number of missing lines since the last summary, if there are any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out:
            log.info(LEFT_OUT, number=self._left_out)
            self._left_out = 0
