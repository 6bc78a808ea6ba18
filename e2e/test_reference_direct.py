"""The playground's direct path while its signaling connection opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from attacks.servers import TcpServer
from harness import StartClient


async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read a handshake, and answer nothing."""
    while await reader.read(65_536):
        pass


@pytest.fixture
async def mute() -> AsyncIterator[str]:
    """Return the URL of a server that accepts connections, and answers no handshake."""
    server = TcpServer(never)
    await server.start()
    yield f"ws://127.0.0.1:{server.port}"
    await server.stop()


async def test_nothing_is_sent_while_the_connection_opens(mute: str, client: StartClient) -> None:
    """Signals and tokens are dropped while the connection opens; from y-webrtc itself they would be an error."""
    page = await client("direct")
    await page.call("start", url=mute)
    await page.call("signal")
    await page.call("renew", token="newer")
