"""Attacks on a server's TLS."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from .attack import attack
from .raw_connection import CUT, Raw, Target
from .slow_clients import CROWD, crowd
from .tls_key_updates import Keys

ALERT = "alert"
"""The outcome of a TLS alert."""
VERSIONS = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]
RENEWALS = 2000
"""Key updates of a client: far more than a server allows."""
GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\x16\x03\x01\xff\xff" + bytes(70_000),
    b"\x80\x2e\x01\x00\x02" + bytes(50),  # SSL 2.0
    bytes(100_000),
]


class Handshake:
    """The client's side of a TLS handshake on a connection, done in steps so that it can stay unfinished."""

    def __init__(self, raw: Raw, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def hello(self) -> bytes:
        """Return the ClientHello."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError("nobody has answered")

    async def finish(self) -> str:
        """Complete the handshake; return the outcome of a failure, or an empty text."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._raw.send(self._outgoing.read())
                if not (came := await self._raw.some()):
                    return CUT
                self._incoming.write(came)
            except ssl.SSLError as error:
                return ALERT if "ALERT" in (error.reason or "") else str(error)
            else:
                await self._raw.send(self._outgoing.read())
                return ""


def _context(target: Target) -> ssl.SSLContext:
    assert target.tls is not None
    return target.tls


@attack(CUT, setups=["tls"])
async def unencrypted_data(target: Target) -> Collection[str]:
    """Data that is not TLS: HTTP, SSL 2.0, random records, and records that are too large."""
    ends = set()
    for data in GARBAGE:
        async with target.wire() as raw:
            await raw.send(data)
            ends.add(await raw.status())
    return ends


def _own(target: Target) -> ssl.SSLContext:
    """Return a context that the attack may change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata="".join(map(ssl.DER_cert_to_PEM_cert, _context(target).get_ca_certs(True))))
    return context


@attack(ALERT, setups=["tls"])
async def old_tls(target: Target) -> Collection[str]:
    """TLS 1.0 and 1.1, and ciphers without encryption or authentication."""
    ends = set()
    for version, ciphers in [*((version, "ALL") for version in VERSIONS), *((None, c) for c in ("aNULL", "eNULL"))]:
        context = _own(target)
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")  # so that the client itself allows them
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = version or ssl.TLSVersion.TLSv1_2
            context.maximum_version = version or ssl.TLSVersion.TLSv1_2
        async with target.wire() as raw:
            ends.add(await Handshake(raw, context).finish())
    return ends


@attack(CUT, setups=["tls"])
async def forged_tls_records(target: Target) -> Collection[str]:
    """Unencrypted or changed records in an established TLS connection."""
    ends = set()
    for record in (b"\x17\x03\x03\x00\x20" + bytes(32), b"\x15\x03\x03\x00\x02\x01\x00", b"\x14\x03\x03\x00\x01\x02"):
        async with target.wire() as raw:
            assert not await Handshake(raw, _context(target)).finish()
            await raw.send(record)
            ends.add(await raw.status())
    return ends


@attack(CUT, setups=["tls"])
async def tls_key_updates(target: Target) -> Collection[str]:
    """Endless TLS 1.3 key updates: records without data, which no message rate counts."""
    context = _own(target)
    with TemporaryDirectory() as folder:
        context.keylog_filename = f"{folder}/secrets"
        async with target.wire() as raw:
            assert not await Handshake(raw, context).finish()
            keys = Keys(Path(context.keylog_filename))
            await raw.send(b"".join(keys.renew() for _ in range(RENEWALS)))
            return {await raw.status()}


@attack(CUT, setups=["tls"])
async def tls_handshake_flood(target: Target) -> Collection[str]:
    """TLS handshakes that one address starts and abandons at full speed, until the server ignores them."""
    ends: set[str] = set()

    async def begin() -> None:
        while not ends:
            async with target.wire() as raw:
                await raw.send(Handshake(raw, _context(target)).hello())
                if not await raw.some():
                    ends.add(CUT)

    await asyncio.gather(*(begin() for _ in range(20)))
    return ends


@attack(CUT, setups=["tls"], slow=True)
async def truncated_client_hello(target: Target) -> Collection[str]:
    """Half of a ClientHello, then silence."""
    return await _crowd(target, 0.5, b"")


@attack(CUT, setups=["tls"], slow=True)
async def hello_byte_by_byte(target: Target) -> Collection[str]:
    """A TLS handshake sent byte by byte."""
    return await _crowd(target, 0.2, b"a" * 1000)


@attack(CUT, setups=["tls"], slow=True)
async def unfinished_tls_handshake(target: Target) -> Collection[str]:
    """TLS handshakes that the client starts and does not finish."""
    return await _crowd(target, 1.0, b"")


@attack(CUT, setups=["tls"], slow=True)
async def silence_after_tls(target: Target) -> Collection[str]:
    """Finished TLS handshakes, then silence."""
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(target.tcp()) for _ in range(CROWD)]
        return set(await asyncio.gather(*(raw.status() for raw in raws)))


async def _crowd(target: Target, share: float, drip: bytes) -> Collection[str]:
    """Start handshakes on many connections with a part of a hello, then send single bytes or nothing until the end."""
    async with target.wire() as raw:
        hello = Handshake(raw, _context(target)).hello()
    end = int(len(hello) * share)
    return await crowd(target.wire, hello[:end], drip and hello[end:])
