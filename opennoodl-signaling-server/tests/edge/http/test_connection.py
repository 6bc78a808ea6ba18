"""HTTP on one TCP connection, without a socket: what is answered, and when a WebSocket takes over."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from ..harness import HANDSHAKE, TIMEOUT, Echo, dispatch, http_connection, pending, protocol

HANDSHAKE_REQUEST = f"GET /room HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()


class Client:
    """A client of `Echo` whose TCP connection is a mock.

    Attributes:
        http: the connection under test.
        websockets: what has taken over, with the request.
        pending: counts the client.
    """

    def __init__(self) -> None:
        self.server = dispatch.Http(Echo())
        self.pending = pending.Pending(0)
        self.websockets: list[tuple[Any, Any]] = []
        self.transport = Mock(asyncio.Transport)
        self.transport.get_extra_info.return_value = ("192.0.2.1", 1234)
        self.transport.is_closing.return_value = False
        self._written = asyncio.Event()
        self.transport.write.side_effect = lambda _: self._written.set()
        self.http = http_connection.HttpConnection(
            self.server, protocol.EdgeProtocol(), TIMEOUT, self.pending, self._upgrade, number=1, refused=Mock()
        )
        self.http.connection_made(self.transport)

    async def answers(self, *wanted: bytes) -> bytes:
        """Wait until all of `wanted` was written, in this order; return all that was."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                written, at = self.written, 0
                for part in wanted:
                    at = written.find(part, at) + 1
                    if not at:
                        break
                else:
                    return written
                self._written.clear()
                await self._written.wait()

    @property
    def written(self) -> bytes:
        """All that was written."""
        return b"".join(call.args[0] for call in self.transport.write.call_args_list)

    def _upgrade(self, request: Any) -> Any:
        websocket = Mock(asyncio.Protocol)
        self.websockets.append((websocket, request))
        return websocket


@pytest.fixture
async def client() -> Any:
    """Return a client that has connected."""
    return Client()


async def test_page_needs_no_websocket(client: Any) -> None:
    """A request for a page is answered, and then the TCP connection is closed, without any object of a WebSocket."""
    client.http.data_received(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.answers(b"200 OK", b'"healthy"')
    client.transport.write_eof.assert_called_once()
    assert client.websockets == []


async def test_accepted_handshake_hands_over_the_connection(client: Any) -> None:
    """After an accepted handshake, a WebSocket has the TCP connection, the path and the address."""
    client.http.data_received(HANDSHAKE_REQUEST.replace(b"/room", b"/?x=1"))
    await client.answers(b"101 Switching Protocols")
    ((websocket, request),) = client.websockets
    assert (request.path, request.address) == ("/", "192.0.2.1")
    client.transport.set_protocol.assert_called_once_with(websocket)
    websocket.connection_made.assert_called_once_with(client.transport)
    websocket.pause_writing.assert_not_called()
    assert not client.pending._connections


async def test_paused_writing_is_handed_over(client: Any) -> None:
    """A WebSocket learns that its client has not read what was answered before the handshake."""
    client.http.pause_writing()
    client.http.data_received(HANDSHAKE_REQUEST.replace(b"/room", b"/"))
    await client.answers(b"101 Switching Protocols")
    ((websocket, _),) = client.websockets
    websocket.pause_writing.assert_called_once_with()


async def test_refused_handshake_creates_no_websocket(client: Any) -> None:
    """A refused handshake makes no WebSocket and does not count for its address."""
    client.http.data_received(HANDSHAKE_REQUEST)
    await client.answers(b"404 Not Found")
    assert client.websockets == []
    assert not client.server.limits._connections


async def test_invalid_handshake_is_released(client: Any) -> None:
    """A handshake that is found invalid when it was accepted counts for its address until the client is gone."""
    client.http.data_received(HANDSHAKE_REQUEST.replace(b"/room", b"/").replace(b"Version: 13", b"Version: 12"))
    await client.answers(b"426 Upgrade Required")
    assert client.server.limits._connections == {"192.0.2.1": 1}
    client.http.connection_lost(None)
    assert not client.server.limits._connections
    assert client.websockets == []


async def test_pipelined_requests_are_answered_in_order(client: Any) -> None:
    """Requests that come together are answered in their order, though the rest of one comes in between."""
    rest = b"alth HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    loop = asyncio.get_running_loop()

    def write(_: bytes) -> None:
        client._written.set()
        if client.transport.write.call_count == 1:
            loop.call_soon(client.http.data_received, rest)

    client.transport.write.side_effect = write
    client.http.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /he")
    await client.answers(b"200 OK", b"Echo 1.2.3", b"200 OK", b'"healthy"')
    client.transport.abort.assert_not_called()


async def test_failing_request_is_answered_500_and_logged(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that the server fails on is answered with 500 and logged."""
    monkeypatch.setattr(client.server, "answer", Mock(side_effect=RuntimeError("broken")))
    client.http.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = await client.answers(b"500 Internal Server Error")
    assert b"broken" not in answered
    assert "RuntimeError: broken" in caplog.text


async def test_gone_before_the_answer(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client is gone, its request is not worked on any longer."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def answer(*_: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(client.server, "answer", answer)
    client.http.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(TIMEOUT):
        await began.wait()
        client.http.connection_lost(None)
        await ended.wait()
    client.transport.write.assert_not_called()


async def test_unread_answer_is_cut(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not close after the last answer is cut."""
    monkeypatch.setattr(http_connection, "CLOSE_TIMEOUT", 0.0)
    cut = asyncio.Event()
    client.transport.abort.side_effect = cut.set
    client.http.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.answers(b"200 OK")
    async with asyncio.timeout(TIMEOUT):
        await cut.wait()
