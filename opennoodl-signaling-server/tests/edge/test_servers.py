"""Servers that end leave no connection open: those of tests, and the service."""

from __future__ import annotations

import asyncio
import socket

import pytest
from websockets.asyncio.server import ServerConnection

from .conftest import Serve
from .servers import TcpServer, websocket_server

TURNS = range(4)
"""Turns of the event loop between the connection of a client and the end of the server: all that accepting takes."""


def is_open(client: socket.socket) -> bool:
    """Whether the server has not closed a connection."""
    client.setblocking(False)
    try:
        return bool(client.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.parametrize("turns", TURNS)
async def test_stopped_server_has_no_open_connection(turns: int) -> None:
    """A connection is closed when the server has stopped, however little of it was accepted."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = TcpServer(wait)
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert not is_open(client)


@pytest.mark.parametrize("turns", TURNS)
async def test_closed_websocket_server_has_no_open_connection(turns: int) -> None:
    """A connection is closed when a server of websockets has been closed, however little of it was accepted."""

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with websocket_server(wait, open_timeout=0.1) as url:
        client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        for _ in range(turns):
            await asyncio.sleep(0)
    with client:
        assert not is_open(client)


@pytest.mark.parametrize("turns", TURNS)
async def test_stopped_service_has_no_open_connection(serve: Serve, turns: int) -> None:
    """A connection is closed when a service has stopped, however little of it was accepted."""
    running = await serve()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await running.stop()
        assert not is_open(client)
