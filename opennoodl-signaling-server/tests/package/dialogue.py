"""Dialogues: the examples of a protocol page, played against a running server.

A dialogue is a fenced block of a page that begins with three backticks and ``text``. Its lines are:

    # a comment
    ann connects to /
    ann → {"type": "ping"}
    ann ← {"type": "pong"}
    ann ← close 1001
    ann is cut off

JSON is a text frame. A binary frame is written in hexadecimal, with ASCII texts in single quotes, and a semicolon
begins a comment. A line that begins with blanks continues the line before. The frames of one client are in order;
nothing is said about the order of frames to different clients.
"""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ..edge.harness import TIMEOUT

CHANGING = {
    "id",
    "notificationId",
    "notificationIds",
    "resumeToken",
    "sequence",
    "since",
    "createdAt",
    "expiresAt",
    "readAt",
    "before",
    "username",
    "credential",
}
"""Fields whose values differ from run to run."""
WIDTH = 116
QUIET = 0.3
"""Seconds after which a recording expects no further frame."""
BLOCK = re.compile(r"```text\n(.*?)```", re.DOTALL)


def dialogues(page: str) -> list[str]:
    """Return the dialogues of a page."""
    return [block for block in BLOCK.findall(page) if " connects to " in block]


async def play(text: str, service: Any) -> None:
    """Play a dialogue with a service that is not started yet.

    Raises:
        AssertionError: the service sends other frames than the dialogue shows.
    """
    await service.start()
    try:
        await Dialogue(text, service.port).play()
    finally:
        await service.stop()


def record(page: Path, create: Callable[[], Any]) -> None:
    """Write a page anew, with the frames in its dialogues that new services send now."""
    text = page.read_text()
    for dialogue in dialogues(text):
        text = text.replace(dialogue, asyncio.run(_recorded(dialogue, create())))
    page.write_text(text)


async def _recorded(text: str, service: Any) -> str:
    await service.start()
    try:
        return await Dialogue(text, service.port).record()
    finally:
        await service.stop()


class Values:
    """The values of this run, by the values that the page shows for them."""

    def __init__(self) -> None:
        self._current: dict[Any, Any] = {}

    def current(self, shown: Any) -> Any:
        """Return a message of the page with the values of this run."""
        return self._replaced(shown, "")

    def _replaced(self, shown: Any, field: str) -> Any:
        if isinstance(shown, dict):
            return {name: self._replaced(value, name) for name, value in shown.items()}
        if isinstance(shown, list):
            return [self._replaced(value, field) for value in shown]
        return self._current.get(shown, shown) if field in CHANGING else shown

    def agree(self, shown: Any, received: Any, field: str = "") -> bool:
        """Return whether a received value is the one that the page shows; only the values of `CHANGING` may differ."""
        if isinstance(shown, dict) and isinstance(received, dict):
            return list(shown) == list(received) and all(
                self.agree(value, received[name], name) for name, value in shown.items()
            )
        if isinstance(shown, list) and isinstance(received, list):
            return len(shown) == len(received) and all(
                self.agree(one, other, field) for one, other in zip(shown, received, strict=True)
            )
        if field not in CHANGING:
            return type(shown) is type(received) and bool(shown == received)
        return _shape(shown) == _shape(received) and self._current.setdefault(shown, received) == received


def _shape(value: Any) -> Any:
    return re.sub(r"[\w-]", "x", value) if isinstance(value, str) else type(value)


class Client:
    """One client of a dialogue."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._received: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                self._received.put_nowait(frame)
        except ConnectionClosed:
            pass
        self._received.put_nowait(f"close {self.socket.close_code}")

    async def receive(self, seconds: float = TIMEOUT) -> str | bytes:
        """Return the next frame, or ``close`` and the code where the connection has ended."""
        async with asyncio.timeout(seconds):
            return await self._received.get()

    async def rest(self) -> list[str | bytes]:
        """Return the frames that have come and were not received, once the server has answered a ping."""
        if self.socket.close_code is None:
            async with asyncio.timeout(TIMEOUT):
                await (await self.socket.ping())
        return [self._received.get_nowait() for _ in range(self._received.qsize())]

    async def end(self, *, cut: bool) -> None:
        """End the connection, without a close frame if it is cut off."""
        if cut:
            self.socket.transport.abort()
        await self.socket.close()
        await self._reading


class Dialogue:
    """Plays one dialogue.

    Args:
        text: the dialogue.
        port: where the server is.
    """

    def __init__(self, text: str, port: int) -> None:
        self._lines = re.sub(r"\n +", " ", text).splitlines()
        self._port = port
        self._values = Values()
        self._clients: dict[str, Client] = {}

    async def play(self) -> None:
        """Play it; every frame that the server sends must be the one that the page shows.

        Raises:
            AssertionError: one is not.
        """
        try:
            for line in self._lines:
                name, arrow, text = _parts(line)
                if arrow == "←":
                    received = await self._clients[name].receive()
                    assert self._agrees(text, received), f"{line}\nbut the server sent\n{shown(received)}"
                else:
                    await self._act(name, arrow, text)
            for name, client in self._clients.items():
                assert await client.rest() == [], f"the server sent more to {name}"
        finally:
            await self._close()

    async def record(self) -> str:
        """Play it, and return it with the frames that the server sends in place of those that the page shows."""
        lines: list[str] = []
        expected: list[tuple[str, str]] = []
        try:
            for line in [*self._lines, "#"]:
                name, arrow, text = _parts(line)
                if arrow == "←":
                    expected.append((name, text))
                    continue
                for at, client in sorted(self._clients.items(), key=lambda item: item[0] != name):
                    while (frame := await self._soon(client)) is not None:
                        for shown_for, text_shown in expected:
                            if shown_for == at and not text_shown.startswith("close"):
                                self._agrees(text_shown, frame)  # so that later lines may name its values
                        lines.append(f"{at} ← {shown(frame)}")
                expected.clear()
                current = arrow == "→" and text.startswith("{")
                lines.append(f"{name} → {self._current(text)}" if current else line)
                await self._act(name, arrow, text)
        finally:
            await self._close()
        return "".join(f"{_wrapped(line)}\n" for line in lines[:-1])

    @staticmethod
    async def _soon(client: Client) -> str | bytes | None:
        try:
            return await client.receive(QUIET)
        except TimeoutError:
            return None

    def _agrees(self, text: str, received: str | bytes) -> bool:
        if isinstance(received, bytes):
            return encoded(text) == received
        if received.startswith("close"):
            return received == text
        return text.startswith("{") and self._values.agree(json.loads(text), json.loads(received))

    def _current(self, text: str) -> str:
        return json.dumps(self._values.current(json.loads(text)), ensure_ascii=False)

    async def _act(self, name: str, action: str, text: str) -> None:
        match action:
            case "connects to":
                url = f"ws://127.0.0.1:{self._port}{text}"
                socket = await connect(url, compression=None, ping_interval=None, proxy=None, max_queue=None)
                self._clients[name] = Client(socket)
            case "→" if text.startswith("{"):
                await self._clients[name].socket.send(self._current(text))
            case "→":
                await self._clients[name].socket.send(encoded(text))
            case "is cut off" | "closes":
                await self._clients.pop(name).end(cut=action == "is cut off")

    async def _close(self) -> None:
        for client in self._clients.values():
            await client.end(cut=False)


def _parts(line: str) -> tuple[str, str, str]:
    """Return who acts, how, and with what; nothing for a comment."""
    if not line or line.startswith("#"):
        return "", "", ""
    parts = re.fullmatch(r"(\w+) (→|←|connects to|is cut off|closes) ?(.*)", line)
    assert parts is not None, f"no line of a dialogue: {line}"
    return parts[1], parts[2], parts[3]


def encoded(text: str) -> bytes:
    """Return the frame that hexadecimal bytes and quoted texts stand for."""
    frame = b""
    for byte, quoted in re.findall(r"([0-9a-f]{2})(?= |$)|'([^']*)'", text.partition(";")[0].rstrip()):
        frame += bytes.fromhex(byte) if byte else quoted.encode()
    return frame


def shown(frame: str | bytes) -> str:
    """Return a frame as a page shows it."""
    if isinstance(frame, str):
        return json.dumps(json.loads(frame), ensure_ascii=False) if frame.startswith("{") else frame
    parts = re.findall(rb"[ -&(-~]{4,}|.", frame, re.DOTALL)
    return " ".join(f"'{part.decode()}'" if len(part) > 1 else part.hex() for part in parts)


def _wrapped(line: str) -> str:
    indent = "" if line.startswith("#") else "    "
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
