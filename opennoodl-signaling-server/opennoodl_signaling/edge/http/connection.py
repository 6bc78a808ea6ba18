"""HTTP on one TCP connection: answers one request after the other, until a handshake is accepted.

The objects of a WebSocket are created only then. A request for a page needs none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN

from ..admission.client_address import peer_address
from ..admission.pending import Pending
from ..websocket.protocol import EdgeProtocol
from .dispatch import Http
from .request import HttpRequest

CLOSE_TIMEOUT = 2.0
"""Seconds that a client has to read the last response and to close before its TCP connection is cut."""

Upgrade = Callable[[HttpRequest], asyncio.Protocol]
"""Makes the WebSocket of an accepted handshake."""

log = logging.getLogger("websockets.server")


class HttpConnection(asyncio.Protocol):
    """A client before the end of its handshake.

    Args:
        http: answers requests.
        protocol: parses requests.
        timeout: seconds until the connection is cut if no handshake has ended.
        pending: counts the client until then.
        upgrade: makes the WebSocket, which takes over the TCP connection.
        number: of the TCP connection, for the log.
        refused: logs and counts a refusal, with its code and the client's address.
    """

    def __init__(
        self,
        http: Http,
        protocol: EdgeProtocol,
        timeout: float,
        pending: Pending,
        upgrade: Upgrade,
        *,
        number: int,
        refused: Callable[..., None],
    ) -> None:
        self._http = http
        self._protocol = protocol
        self._timeout = timeout
        self._pending = pending
        self._upgrade = upgrade
        self._number = number
        self._refused = refused
        self._readable = True
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._task: asyncio.Task[None] | None = None
        self._accepted: HttpRequest | None = None
        self._writing_paused = False

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer, and count the client as pending."""
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_address(transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.abort, "timeout")
        self._pending.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse bytes; answer a request when it is complete."""
        self._protocol.receive_data(data)
        if self._protocol.handshake_exc is not None:
            self._check_readable()
            self._send()
        for request in self._protocol.events_received():
            assert isinstance(request, Request)
            self._task = asyncio.get_running_loop().create_task(self._answer(request))
        if self._protocol.parser_exc is not None:
            self.abort("bad-request")

    def eof_received(self) -> None:
        """End the input; answer an incomplete request with an error."""
        self._protocol.receive_eof()
        self._check_readable()
        self._send()

    def pause_writing(self) -> None:
        """Remember that the client does not read the responses."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Remember that the client reads again."""
        self._writing_paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and the task, and stop counting the client."""
        self._timer.cancel()
        self._pending.remove(self)
        if self._task is not None:
            self._task.cancel()
        if self._accepted is not None:
            self._http.release(self._accepted)
        self._protocol.receive_eof()
        self._protocol.release()

    # Called by `Pending`

    def abort(self, refusal: str = "") -> None:
        """Cut the TCP connection; log and count the refusal if a code is given."""
        if refusal:
            self._refused(refusal, self._peer)
        self._transport.abort()

    # Inside

    async def _answer(self, head: Request) -> None:
        protocol = self._protocol
        try:
            answer = await self._http.answer(self._peer, protocol, head, self._number)
        except Exception:
            log.exception("a request could not be answered")
            answer = protocol.reject(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error in the server.\n")
        if isinstance(answer, HttpRequest):
            self._accepted = answer
            response = self._http.accept(answer)
        else:
            response = answer
        if protocol.state is not CONNECTING:
            return  # the client is gone
        protocol.send_response(response)
        self._send()
        if protocol.state is OPEN:
            self._hand_over()
        elif protocol.eof_sent:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)
        else:
            await asyncio.sleep(0)  # other connections get a turn in between
            self.data_received(protocol.next_request())

    def _hand_over(self) -> None:
        """Pass the TCP connection to a WebSocket."""
        assert self._accepted is not None
        self._timer.cancel()
        self._pending.remove(self)
        websocket = self._upgrade(self._accepted)
        self._transport.set_protocol(websocket)
        websocket.connection_made(self._transport)
        if self._writing_paused:
            websocket.pause_writing()

    def _check_readable(self) -> None:
        """Log and count a request that cannot be parsed. `_answer` does so for the others."""
        code = self._protocol.unreadable
        if code and self._readable and self._task is None:
            self._readable = False
            self._refused(code, self._peer)

    def _send(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():
                self._transport.write_eof()
