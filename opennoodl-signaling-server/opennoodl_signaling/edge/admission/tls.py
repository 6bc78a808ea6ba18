"""TLS: what lies between a client's TCP connection and its WebSocket where this server has a certificate of its own.

Python's ssl does it all. It is fed by hand because the event loops' own TLS would begin as soon as a client is
accepted, and keep large buffers for it: one that connects and says nothing would cost 50 KB (uvloop) or 300 KB
(asyncio) and not 2. And what waits to be written is counted in one place.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, cast

import structlog

from ..settings import EdgeSettings, SettingError
from .client_address import ClientAddresses, peer_address
from .pending import Pending

RECORD = 16_384
"""Bytes that a record may bring (RFC 8446, 5.1)."""
HEADER = 5
"""Bytes before a record that say what it is and how long (RFC 8446, 5.1)."""
OVERHEAD = 2048
"""Bytes that a record may be longer than what it brings, in TLS 1.2 (RFC 5246, 6.2.3); in TLS 1.3 they are fewer."""
KINDS = (b"\x14", b"\x15", b"\x16", b"\x17")
"""The first bytes that records may have (RFC 8446, appendix B.1)."""
VERSION = b"\x03"
"""Their second byte, in all versions of TLS."""
MAX_EMPTY = 256
"""Records of one connection that bring no data: those of its handshake, and new keys, which cost more than messages."""
LEFT = "the client ended the connection"
"""Why a TLS handshake failed that OpenSSL knows no error of."""

log = structlog.get_logger()


class Certificate:
    """The server's certificate and its key, from the files that the settings name.

    Args:
        settings: with ``TLS_CERT`` and ``TLS_KEY``, both or neither.

    Attributes:
        context: for the next client; None where there is no certificate.
        end: when it ends, in seconds since 1970; None where that is not known.

    Raises:
        SettingError: the files cannot be used.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self._certificate, self._key = settings.tls_cert, settings.tls_key
        self.context: ssl.SSLContext | None = None
        self.end: float | None = None
        if bool(self._certificate) != bool(self._key):
            here, missing = ("TLS_CERT", "TLS_KEY") if self._certificate else ("TLS_KEY", "TLS_CERT")
            raise SettingError(f"{here} is set, but {missing} is not; set both or neither")
        if self._certificate:
            self.load()

    def load(self) -> None:
        """Read the files again; if they cannot be used, everything stays as it was.

        Raises:
            SettingError: that is so, in one line that names the variable.
        """
        for name, path in (("TLS_CERT", self._certificate), ("TLS_KEY", self._key)):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise SettingError(f"{name} is {path!r}, which cannot be read: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            # It has to be able to read them; nobody's certificate is asked for, so nobody's is trusted.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self._certificate)
        except ssl.SSLError:
            raise SettingError(
                f"TLS_CERT is {self._certificate!r}; accepted is a PEM file with a certificate "
                "and its intermediate certificates"
            ) from None
        try:
            # Without a password here, a key that needs one would be waited for at a terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError as error:
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
                why = "which is not the key of the certificate in TLS_CERT"
            elif error.reason:
                raise SettingError(f"TLS_CERT is {self._certificate!r}, which cannot be used: {error.reason}") from None
            else:
                why = "which cannot be used; accepted is a PEM file of a private key without a passphrase"
            raise SettingError(f"TLS_KEY is {self._key!r}, {why}") from None
        self.context = context
        self.end = _end_of(self._certificate)


def _end_of(path: str) -> float | None:
    """Return when the first certificate in a PEM file ends, in seconds since 1970; None if it cannot be read."""
    from cryptography import x509  # only a server with a certificate needs this

    with open(path, "rb") as file:
        try:
            return x509.load_pem_x509_certificate(file.read()).not_valid_after_utc.timestamp()
        except ValueError as error:  # OpenSSL is less strict, and has accepted it
            log.warning("the end of the certificate in TLS_CERT cannot be read", error=str(error))
            return None


class Tls(asyncio.Transport, asyncio.Protocol):
    """The TLS of one client: a protocol to its TCP connection, and a transport to what is above.

    Args:
        context: with the certificate.
        create: makes the protocol above, when the TLS handshake is done.
        timeout: seconds that a client has for it.
        pending: counts it until then.
        addresses: limit the TLS handshakes of its address, which cost more than all else.
        refused: notes why there is no TLS, with the client's address.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        create: Callable[[], asyncio.Protocol],
        timeout: float,
        pending: Pending,
        addresses: ClientAddresses,
        *,
        refused: Callable[..., None],
    ) -> None:
        super().__init__()
        self._pending = pending
        self._addresses = addresses
        self._refused = refused
        self._create = create
        self._timeout = timeout
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._wire: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._above: asyncio.Protocol | None = None
        self._part = b""  # of a record whose rest has not come
        self._empty = 0  # records that have brought nothing
        self._ended = False  # this side has said goodbye
        self._closing = False

    # As a protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._wire = cast(asyncio.Transport, transport)
        self._pending.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.abort, "timeout")
        self._peer = peer_address(transport)
        if not self._addresses.allow_tls(self._peer, monotonic()):
            self.abort("handshake-rate")

    def data_received(self, data: bytes) -> None:
        """Hand on what is in it, or go on with the handshake; after a goodbye, read what comes and drop it."""
        if self._ended or self.is_closing():
            return
        data, start, parts = self._part + data, 0, []
        try:
            # One record at a time, or thousands that bring nothing would be taken in before they are counted.
            while start < (end := _end(data, start)) <= len(data) and self._empty <= MAX_EMPTY:
                self._incoming.write(data[start:end])
                start = end
                parts.append(self._take())
        except ssl.SSLZeroReturnError:
            start, ended = len(data), True
        except ssl.SSLError as error:
            self._flush()  # what TLS has to say about it
            self._closing = True
            if self._above is None:
                plain_http = error.reason == "HTTP_REQUEST"
                self._refused("http-to-tls" if plain_http else "tls-failed", self._peer, detail=error.reason or "")
            self._wire.close()
            return
        else:
            ended = False
        self._part = data[start:]
        self._flush()
        plain = b"".join(parts)
        if plain and self._above is not None:
            self._above.data_received(plain)
        if self._empty > MAX_EMPTY:
            self.abort("protocol-error")
        elif ended:
            self.eof_received()
            self.close()

    def eof_received(self) -> None:
        """Pass on that the client sends nothing more."""
        if self._above is not None:
            self._above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the client is gone, and let go of everything."""
        self._timer.cancel()
        self._pending.remove(self)
        if self._above is None and not self._closing:
            self._refused("tls-failed", self._peer, detail=LEFT)
        self._closing = True
        if self._above is not None:
            self._above.connection_lost(exc)
            self._above = None

    def pause_writing(self) -> None:
        """Pass on that too much waits to be written."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does not any more."""
        if self._above is not None:
            self._above.resume_writing()

    # As a transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol above."""
        self._above = cast(asyncio.Protocol, protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing is kept here, so what waits is what waits in the TCP connection."""
        if self._ended or self.is_closing():
            return
        left = memoryview(data)
        while left:
            left = left[self._ssl.write(left) :]
        self._flush()

    def can_write_eof(self) -> bool:
        """Return True: there is a goodbye (RFC 8446, 6.1), and TCP has one."""
        return True

    def write_eof(self) -> None:
        """Say goodbye, and leave it to the client to close.

        A TCP connection that is closed while something comes is reset, and what the client has not read yet, such as
        why its message was refused, is lost.
        """
        self._goodbye()
        self._wire.write_eof()

    def close(self) -> None:
        """Say goodbye, and close when everything is written."""
        if not self.is_closing():
            self._goodbye()
            self._closing = True
            self._wire.close()

    def abort(self, refusal: str = "") -> None:
        """Cut the connection, for a reason with this code if it is to be noted."""
        if refusal and not self._closing:
            self._refused(refusal, self._peer)
        self._closing = True
        self._wire.abort()

    def is_closing(self) -> bool:
        """Return whether this was closed, or the TCP connection was."""
        return self._closing or self._wire.is_closing()

    def is_reading(self) -> bool:
        """Return whether anything is read."""
        return self._wire.is_reading()

    def pause_reading(self) -> None:
        """Read nothing more; what was read is handed on already."""
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._wire.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait."""
        self._wire.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self._wire.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the TCP connection."""
        return self._wire.get_extra_info(name, default)

    # Inside

    def _established(self) -> None:
        self._timer.cancel()
        self._pending.remove(self)
        self._flush()
        self._above = self._create()
        self._above.connection_made(self)

    def _take(self) -> bytes:
        """Take one record in; return what it has brought.

        Raises:
            ssl.SSLZeroReturnError: a goodbye.
            ssl.SSLError: it is not right.
        """
        try:
            if self._above is None:
                self._ssl.do_handshake()
                self._established()
                return b""
            part = self._ssl.read(RECORD)
        except ssl.SSLWantReadError:
            self._empty += 1
            return b""
        if not part:
            raise ssl.SSLZeroReturnError
        return part

    def _goodbye(self) -> None:
        if not self._ended:
            self._ended = True
            with suppress(ssl.SSLError):  # it wants to read the client's goodbye, which nobody waits for
                self._ssl.unwrap()
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._wire.write(data)


def _end(data: bytes, start: int) -> int:
    """Return where the record ends that starts there, which may be beyond the data.

    What is no record ends with the data: it is refused as soon as it is seen.
    """
    header = data[start : start + HEADER]
    if header[:1] not in KINDS or header[1:2] not in (b"", VERSION):
        return len(data)
    if len(header) < HEADER:
        return start + HEADER
    size = int.from_bytes(header[3:], "big")
    return start + HEADER + size if size <= RECORD + OVERHEAD else len(data)
