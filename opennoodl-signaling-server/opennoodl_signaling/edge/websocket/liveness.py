"""Liveness: whether a client answers a ping. *Presence* means something else in these servers: the users in a room."""

from __future__ import annotations

import asyncio

PAYLOAD = b"are you there?"
"""The payload of a ping that checks liveness."""


class LivenessCheck:
    """A check whether one client answers a ping now. Concurrent callers share one ping."""

    __slots__ = ("_pong",)

    def __init__(self) -> None:
        self._pong: asyncio.Future[bool] | None = None

    def begin(self) -> bool:
        """Begin a check; return whether the caller must send a ping. It need not if a check is under way."""
        if self._pong is not None:
            return False
        self._pong = asyncio.get_running_loop().create_future()
        return True

    async def wait(self, seconds: float) -> bool:
        """Wait for the pong; return whether it arrives within `seconds`."""
        if self._pong is None:
            return False
        done, _ = await asyncio.wait((self._pong,), timeout=seconds)
        return any(pong.result() for pong in done)

    def expects(self, payload: bytes) -> bool:
        """Return whether a pong with this payload ends the check."""
        return self._pong is not None and payload == PAYLOAD

    def pong(self, payload: bytes) -> None:
        """Handle a pong: it ends the check if its payload is that of the check."""
        if self._pong is not None and self.expects(payload):
            self._pong.set_result(True)
            self._pong = None

    def end(self) -> None:
        """End the check with the result false: the client is disconnected."""
        if self._pong is not None:
            self._pong.set_result(False)
            self._pong = None
