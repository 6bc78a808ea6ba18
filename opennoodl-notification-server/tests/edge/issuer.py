"""Issuers of tokens: keys that sign, and an HTTP server in place of GitHub or an issuer."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .servers import TcpServer

SECRET = "a secret of more than 32 characters, for tests"
OTHER_SECRET = "another secret of more than 32 characters, too"

# It takes a while to make RSA keys.
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(private: Any) -> str:
    """Return the public key of a private key."""
    return str(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


YEAR_2100 = 4_102_444_800
"""The time in seconds since 1970."""


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token of the user ann, with other `claims` if given; None omits a claim.

    It is the same in every process, since tokens are in the ids of tests.
    """
    claims = {"sub": "ann", "exp": YEAR_2100, **claims}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers=headers)


def published(**private: Any) -> dict[str, Any]:
    """Return the JWK Set of private keys by their ids."""
    keys = []
    for key_id, key in private.items():
        name = next(name for name, known in PRIVATE.items() if type(known) is type(key))
        made: dict[str, Any] = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
        keys.append({**made, "kid": key_id, "use": "sig"})
    return {"keys": keys}


class Loopback:
    """An HTTP server.

    Attributes:
        answer: status and JSON of the next answers, or bytes as they are; a status of 0 hangs up.
        headers: lines that the next answers have.
        trickles: how the next answers begin instead, if anything; the rest comes in single bytes, without an end.
        asked: the requests that came, as they came.
        goes_on: answers wait for it.
    """

    def __init__(self) -> None:
        self.answer: tuple[int, Any] = (200, {})
        self.headers: list[str] = []
        self.trickles = b""
        self.asked: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._came = asyncio.Condition()
        self._trickling = 0
        self._scheme = ""
        self._server = TcpServer(self._serve)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen."""
        self._scheme = "https" if tls else "http"
        await self._server.start(tls)

    async def stop(self) -> None:
        """Close all connections, and stop listening."""
        await self._server.stop()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"{self._scheme}://127.0.0.1:{self._server.port}"

    async def until_asked(self, times: int) -> None:
        """Wait until this number of requests has arrived."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: len(self.asked) >= times)

    async def until_left(self) -> None:
        """Wait until no client reads a slow answer any more."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: not self._trickling)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        async with self._came:
            self.asked.append(request.decode())
            self._came.notify_all()
        await self.goes_on.wait()
        status, content = self.answer
        if self.trickles:
            await self._trickle(writer)
        elif status:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", "Connection: close", *self.headers]
            writer.write("\r\n".join([*lines, "\r\n"]).encode() + body)

    async def _trickle(self, writer: asyncio.StreamWriter) -> None:
        self._trickling += 1
        writer.write(self.trickles)
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        async with self._came:
            self._trickling -= 1
            self._came.notify_all()
