"""The other instances: connections for their rooms are forwarded to them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic
from typing import Any

import httpx
import msgspec
import structlog
from websockets.http11 import Request

from ..edge.auth.credential import credential
from ..edge.errors import CloseConnection
from ..edge.metrics import Counts
from ..edge.websocket.connection import Connection
from ..storage.interface import ElsewhereError, Store, UnavailableError
from .relay import GONE, Relay, RelayError, tls_context
from .signature import HEADER, Signature

WATCH_INTERVAL = 1.0
"""Seconds between two checks of the leases of the instances with relays."""
ASK_TIMEOUT = 8.0
"""Time limit in seconds for the answer to a forwarded request."""
LOG_INTERVAL = 60.0
"""Seconds between two log lines about instances that cannot be reached."""

log = structlog.get_logger()


class Peers:
    """Forwards connections to other instances, and accepts forwarded ones.

    Args:
        secret: is shared by all instances; empty to forward nothing.
        store: has the names and leases of the instances.

    Attributes:
        relays: the open relays.
        outcomes: counts attempts to forward a connection, by ``accepted`` or ``failed``.
    """

    def __init__(self, secret: str, store: Store) -> None:
        self.relays: set[Relay] = set()
        self.outcomes = Counts(("accepted", "failed"))
        self._signature = Signature(secret, store.instance) if secret else None
        self._store = store
        self._log_again = 0.0

    def client_address(self, request: Request) -> str | None:
        """Return the client's address of a request that another instance forwards; None for any other request."""
        value = request.headers.get(HEADER)
        if value is None or self._signature is None:
            return None
        address = self._signature.check(value, request.path)
        if address is None:
            self._warn("a connection was passed on with another CLUSTER_SECRET")
        return address

    async def pass_on(self, connection: Connection, owner: ElsewhereError) -> Relay:
        """Forward a connection to the instance that owns its room; return the relay.

        Raises:
            CloseConnection: the connection must be closed with the error's code.
            RelayError: the instance cannot be reached, or accepts no connections now.
        """
        if self._signature is None or not owner.url:
            raise CloseConnection(1013, "Another server has this document. Connect again.", "document-elsewhere")
        assert connection.request is not None
        target = connection.request.path
        headers = {HEADER: self._signature.sign(owner.instance, connection.address, target)}
        token = credential(connection.request)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        relay = Relay(connection, owner.instance, self.relays.discard)
        try:
            await relay.start(owner.url, target, headers)
        except RelayError as error:
            self.outcomes["failed"] += 1
            self._warn("a connection could not be passed on", url=owner.url, error=str(error))
            raise
        self.outcomes["accepted"] += 1
        self.relays.add(relay)
        return relay

    async def ask(
        self, owner: ElsewhereError, method: str, target: str, address: str, token: str | None
    ) -> tuple[HTTPStatus, dict[str, Any]]:
        """Forward an HTTP request to the instance that owns a room; return the status and JSON body of the answer.

        Args:
            owner: the other instance.
            method: the method of the request.
            target: its path and query.
            address: the address of its client.
            token: the client's token, or None.
        """
        if self._signature is None or not owner.url:
            return HTTPStatus.CONFLICT, {"error": "Another server has this document open, and CLUSTER_SECRET is unset."}
        headers = {HEADER: self._signature.sign(owner.instance, address, target), "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = owner.url.replace("ws", "http", 1).rstrip("/") + target
        try:
            async with httpx.AsyncClient(verify=tls_context(), trust_env=False) as client:
                answer = await client.request(method, url, headers=headers, timeout=ASK_TIMEOUT)
            body: dict[str, Any] = msgspec.json.decode(answer.content, type=dict)
            return HTTPStatus(answer.status_code), body
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            self._warn("a request could not be passed on", url=owner.url, error=str(error) or type(error).__name__)
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": GONE}

    async def watch(self) -> None:
        """Close the relays to instances without a valid lease, since others may own their rooms, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            instances = {relay.instance for relay in self.relays}
            if not instances:
                continue
            try:
                alive = await self._store.alive(instances)
            except UnavailableError:
                continue  # without the store, no other instance can own their rooms
            for relay in [relay for relay in self.relays if relay.instance in instances - alive]:
                relay.disconnect()

    def _warn(self, event: str, **values: str) -> None:
        if monotonic() >= self._log_again:
            self._log_again = monotonic() + LOG_INTERVAL
            log.warning(event, **values)
