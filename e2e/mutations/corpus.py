"""The corpus: messages of the JavaScript clients, one per line; recorded by ``pytest test_mutations.py --record``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from attacks.servers import websocket_server
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

HERE = Path(__file__).parent / "corpus"
LONGEST = 4096
"""Largest message that is recorded, in bytes."""
MOST = 200
"""Largest number of recorded messages for one server."""
ADDRESS = re.compile(rb"(?<![\d.])(?!127\.|0\.)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")


def read(kind: str) -> list[bytes]:
    """Return the messages to a server, in their order."""
    lines = (HERE / f"{kind}.txt").read_text().splitlines()
    return [bytes.fromhex(line) for line in lines] if kind == "sync" else [line.encode() for line in lines]


def write(kind: str, messages: list[bytes]) -> None:
    """Write messages to the corpus, without names of the recording machine."""
    kept = [ADDRESS.sub(b"192.0.2.1", message) if kind != "sync" else message for message in messages]
    kept = [message for message in dict.fromkeys(kept) if len(message) <= LONGEST][:MOST]
    lines = [message.hex() if kind == "sync" else message.decode() for message in kept]
    (HERE / f"{kind}.txt").write_text("\n".join(lines) + "\n")


class Recorder:
    """Forwards WebSocket messages, and records those of the clients.

    Attributes:
        url: the URL for clients.
        messages: the recorded messages.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.messages: list[bytes] = []
        self._target = target

    async def relay(self, client: ServerConnection) -> None:
        """Forward the messages of a client, and the answers."""
        assert client.request is not None
        async with connect(self._target + client.request.path, compression=None, max_size=None) as server:

            async def back() -> None:
                async for message in server:
                    await client.send(message)

            answering = asyncio.create_task(back())
            try:
                async for message in client:
                    self.messages.append(message.encode() if isinstance(message, str) else message)
                    await server.send(message)
            except ConnectionClosed:
                pass
            finally:
                answering.cancel()


@asynccontextmanager
async def recorder(target: str) -> AsyncIterator[Recorder]:
    """Run a recorder before a server until the end of the block."""
    one = Recorder(target)
    async with websocket_server(one.relay, compression=None, max_size=None) as one.url:
        yield one
