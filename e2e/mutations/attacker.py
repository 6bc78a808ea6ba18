"""The attacker: a client that sends changed recordings, and reconnects when the server closes the connection."""

from __future__ import annotations

import random
import re
from collections import deque
from contextlib import AsyncExitStack

from attacks.raw_connection import BINARY, TEXT, Raw, Target, frame
from pycrdt import write_var_uint

from .mutate import broken_frame, change

BATCH = 40
"""JSON messages in one batch."""
ROWS = (1, 1, 1, 2, 4)
"""Messages to the sync server in one batch: it closes after the first invalid one."""
BROKEN = 0.01
"""Fraction of frames that are changed themselves."""
KNOWN = re.compile(rb'"notificationId":"([0-9a-f-]{36})"')
ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Attacker:
    """One such client.

    Attributes:
        sent: the number of sent messages.
        closed: the number of closed connections.
        last: the last sent message.
    """

    def __init__(self, target: Target, room: str, dice: random.Random, pool: list[bytes]) -> None:
        self.sent = 0
        self.closed = 0
        self.last: deque[bytes] = deque(maxlen=60)
        self._target = target
        self._path = f"/{room}".encode()
        self._dice = dice
        self._pool = pool
        self._place = dice.randrange(len(pool))
        self._id = b""
        self._raw: Raw | None = None
        self._stack = AsyncExitStack()

    async def attack(self, count: int) -> None:
        """Send this number of messages."""
        until = self.sent + count
        while self.sent < until:
            if self._target.kind == "sync":
                await self._row([self._changed() for _ in range(self._dice.choice(ROWS))])
            else:
                await self._batch()

    async def send(self, messages: list[bytes]) -> None:
        """Send messages unchanged."""
        for message in messages:
            await self._row([message])

    async def leave(self) -> None:
        """Close the connection."""
        await self._stack.aclose()
        self._raw = None

    def _next(self) -> bytes:
        """Return the next message of the recording, or another one of it."""
        self._place = (self._place + 1) % len(self._pool)
        if self._dice.random() < 0.3:
            self._place = self._dice.randrange(len(self._pool))
        message = self._pool[self._place]
        if self._id and self._dice.random() < 0.7:
            message = ID.sub(self._id, message)
        return message

    def _changed(self) -> bytes:
        """Return a changed message for the sync server; in most, only the content of the sync message is changed."""
        message, dice = self._next(), self._dice
        if message[0] == 0 and dice.random() < 0.85:
            content = _content(message)
            others = [_content(other) for other in self._pool if other[:2] == message[:2]]
            content = change(dice, content, others, text=False)
            return message[:2] + write_var_uint(len(content)) + content
        return change(dice, message, self._pool, text=False)

    async def _line(self) -> Raw:
        if self._raw is None:
            self._raw = await self._stack.enter_async_context(self._target.websocket(self._path))
            # Only after this first ping does the answer to a later one prove that all frames before were handled.
            await self._raw.drained()
        return self._raw

    async def _row(self, messages: list[bytes]) -> None:
        raw = await self._line()
        self.last.extend(messages)
        self.sent += len(messages)
        data = b"".join(frame(message, BINARY) for message in messages)
        if self._dice.random() < BROKEN:
            await self._break(raw, data, messages[-1], BINARY)
            return
        await raw.send(data)
        if await raw.drained() is None:
            await self._closed()

    async def _batch(self) -> None:
        raw, dice = await self._line(), self._dice
        frames: list[bytes] = []
        while len(frames) < BATCH:
            message = change(dice, self._next(), self._pool, text=True)
            text = _is_text(message)
            if not text and dice.random() < 0.95:
                continue
            frames.append(frame(message))
            self.last.append(message)
            if not text:  # it ends the connection
                break
        self.sent += len(frames)
        data = b"".join(frames)
        if dice.random() < BROKEN * len(frames):
            await self._break(raw, data, self._next(), TEXT)
            return
        await raw.send(data)
        came = await raw.drained()
        if came is None:
            await self._closed()
        elif found := KNOWN.findall(came):
            self._id = dice.choice(found)

    async def _break(self, raw: Raw, data: bytes, message: bytes, opcode: int) -> None:
        """Send a changed frame after others; the handling of later bytes is undefined."""
        broken = broken_frame(self._dice, message, opcode)
        self.last.append(broken)
        self.sent += 1
        await raw.send(data + broken)
        await raw.finish()
        await self._closed()

    async def _closed(self) -> None:
        self.closed += 1
        await self.leave()


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def _content(message: bytes) -> bytes:
    """Return the content of a recorded sync message."""
    at = 2
    while message[at] & 128:
        at += 1
    return message[at + 1 :]
