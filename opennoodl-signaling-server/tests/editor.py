"""An editor's connection to the signaling server, for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from .edge.harness import TIMEOUT


class Editor:
    """Speaks both dialects, one message at a time.

    Args:
        socket: its open WebSocket.

    Attributes:
        server: the instance that it is connected to; None with a single instance.
        settle: waits until all instances have handled all requests; None with a single instance.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.server: Service | None = None
        self.settle: Callable[[], Awaitable[None]] | None = None

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message with these fields."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def receive(self) -> Any:
        """Receive the next message."""
        async with asyncio.timeout(TIMEOUT):
            return json.loads(await self.socket.recv())

    async def expect(self, kind: str) -> Any:
        """Receive the next message, which must have this type; return it without the type."""
        message = await self.receive()
        assert message.pop("type") == kind, message
        return message

    async def ask(self, kind: str, **fields: Any) -> Any:
        """Send a message; return the next message."""
        await self.send(kind, **fields)
        return await self.receive()

    async def refused(self, kind: str, **fields: Any) -> Any:
        """Send a message that must be answered with an error; return its code, with its `requestId` if it has one."""
        answer = await self.ask(kind, **fields)
        assert answer["type"] == "error", answer
        assert answer["error"].endswith(".")
        return (answer["code"], answer["requestId"]) if "requestId" in answer else answer["code"]

    async def join(self, room: str, peer: str, user: str = "", **fields: Any) -> Any:
        """Join a room; return the `joined`."""
        await self.send("join", room=room, peerId=peer, userId=user or f"user of {peer}", **fields)
        return await self.expect("joined")

    async def subscribe(self, *topics: str) -> None:
        """Subscribe to topics, and wait until the server has done it."""
        await self.send("subscribe", topics=topics)
        await self.quiet()

    async def quiet(self) -> None:
        """Fail if the server has sent a message that this client has not received yet."""
        if self.settle is not None:
            for _ in range(2):
                await self.send("ping")
                assert await self.receive() == {"type": "pong"}
                await self.settle()
        await self.send("ping")
        assert await self.receive() == {"type": "pong"}

    async def closed(self) -> int:
        """Wait for the close frame, before which no message may arrive; return its code."""
        with pytest.raises(ConnectionClosed) as info:
            await self.receive()
        assert info.value.rcvd is not None
        return info.value.rcvd.code


def news(peer: str, user: str = "", metadata: object = None) -> dict[str, Any]:
    """Return the data of a peer, as `joined` and `peer-joined` have it."""
    return {"peerId": peer, "userId": user or f"user of {peer}", "metadata": metadata or {}}
