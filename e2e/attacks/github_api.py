"""An imitation of GitHub's API: it accepts each token ``gho_<login>``, and hangs or fails for some."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .servers import TcpServer

STRANGE = ("hang", "endless", "fail", "limit", "nonsense", "elsewhere", "other")
"""Prefixes of tokens for which it hangs or fails."""


def token(login: str) -> str:
    """Return the token of a user."""
    return f"gho_{login}"


def _response(status: int, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _answer(kind: str, rest: str) -> bytes:
    match kind:
        case "gho":
            return _response(200, json.dumps({"login": rest}))
        case "fail":
            return _response(500, "")
        case "limit":
            return _response(429, "", "Retry-After: 3600")
        case "nonsense":
            return _response(200, "<html>")
        case "other":
            return _response(200, '{"login": 5}')
        case "elsewhere":
            return _response(302, "", "Location: /user?again")
    return _response(401, '{"message": "Bad credentials"}')


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        shown = re.search(r"(?i)^authorization: bearer (\S+)\r$", request, flags=re.MULTILINE)
        kind, _, rest = (shown[1] if shown is not None and request.startswith("GET /user ") else "").partition("_")
        if kind == "hang":
            await reader.read()  # until the client gives up
        elif kind == "endless":
            writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                writer.write(b" " * 10_000)
                await writer.drain()
        else:
            writer.write(_answer(kind, rest))
            await writer.drain()


@asynccontextmanager
async def github_api() -> AsyncIterator[str]:
    """Run the imitation; yield its URL."""
    server = TcpServer(_serve)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()
