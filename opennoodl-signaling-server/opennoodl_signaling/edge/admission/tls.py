"""TLS between a client's TCP connection and HTTP, if this server has a certificate.

Python's ssl module implements TLS. It works on buffers in memory here, because the TLS of the event loops begins as
soon as a connection is accepted, and allocates large buffers: a silent client would cost 50 KB (uvloop) or 300 KB
(asyncio) instead of 2 KB. In addition, all unwritten output is counted in one place.
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
from .address_limits import AddressLimits
from .client_address import ClientAddresses, peer_address
from .pending import Pending

RECORD = 16_384
"""Bytes of data that a record can have (RFC 8446, 5.1)."""
HEADER = 5
"""Bytes of a record's header: type, version and length (RFC 8446, 5.1)."""
OVERHEAD = 2048
"""Bytes by which a record can be longer than its data in TLS 1.2 (RFC 5246, 6.2.3); TLS 1.3 has fewer."""
KINDS = (b"\x14", b"\x15", b"\x16", b"\x17")
"""The content types of records, which are their first byte (RFC 8446, appendix B.1)."""
VERSION = b"\x03"
"""The second byte of a record, in all versions of TLS."""
MAX_EMPTY = 256
"""Records without data in one connection: its handshake, and key updates, which cost more than messages."""
LEFT = "the client ended the connection"
"""The reason of a failed TLS handshake for which OpenSSL reports no error."""

log = structlog.get_logger()


class Certificate:
    """The server's certificate and its private key, from the files that the settings name.

    Args:
        settings: ``TLS_CERT`` and ``TLS_KEY``, both or neither.

    Attributes:
        context: the context for new connections; None without a certificate.
        end: time at which the certificate ends, in seconds since 1970; None if it is not known.

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
        """Load the files again. If they cannot be used, `context` and `end` do not change.

        Raises:
            SettingError: a file cannot be used; the text is one line that names the setting.
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
            # This only checks that the file has certificates. The context is dropped, so nothing is trusted.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self._certificate)
        except ssl.SSLError:
            raise SettingError(
                f"TLS_CERT is {self._certificate!r}; accepted is a PEM file with a certificate "
                "and its intermediate certificates"
            ) from None
        try:
            # Without a password here, OpenSSL would ask for one at the terminal if the key needs it.
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
    """Return the end of the first certificate in a PEM file, in seconds since 1970; None if it cannot be read."""
    from cryptography import x509  # only a server with a certificate needs this

    with open(path, "rb") as file:
        try:
            return x509.load_pem_x509_certificate(file.read()).not_valid_after_utc.timestamp()
        except ValueError as error:  # OpenSSL is less strict and has accepted the certificate
            log.warning("the end of the certificate in TLS_CERT cannot be read", error=str(error))
            return None


class Tls(asyncio.Transport, asyncio.Protocol):
    """The TLS of one connection: a protocol for its TCP connection, and a transport for the protocol above.

    Args:
        context: the context with the certificate.
        create: makes the protocol above, when the TLS handshake is finished.
        timeout: seconds in which the client must finish the TLS handshake.
        pending: counts this connection until then.
        addresses: knows the trusted proxies, which have no limit here.
        limits: limits the TLS handshakes of the address, which cost more than anything else in a handshake.
        refused: counts and logs a failure, with its code and the client's address.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        create: Callable[[], asyncio.Protocol],
        timeout: float,
        pending: Pending,
        addresses: ClientAddresses,
        *,
        limits: AddressLimits,
        refused: Callable[..., None],
    ) -> None:
        super().__init__()
        self._pending = pending
        self._addresses = addresses
        self._limits = limits
        self._refused = refused
        self._create = create
        self._timeout = timeout
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._wire: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._above: asyncio.Protocol | None = None
        self._part = b""  # the incomplete record at the end of the data
        self._empty = 0  # number of records without data
        self._ended = False  # this side has sent close_notify
        self._closing = False

    # As a protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout, and check the rate of the address."""
        self._wire = cast(asyncio.Transport, transport)
        self._pending.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.abort, "timeout")
        self._peer = peer_address(transport)
        if not self._addresses.is_proxy(self._peer) and not self._limits.allow_tls(self._peer, monotonic()):
            self.abort("handshake-rate")

    def data_received(self, data: bytes) -> None:
        """Decrypt data for the protocol above, or continue the handshake. After close_notify, drop all data."""
        if self._ended or self.is_closing():
            return
        data, start, parts = self._part + data, 0, []
        try:
            # One record at a time: thousands of records without data would be processed before they are counted.
            while start < (end := _end(data, start)) <= len(data) and self._empty <= MAX_EMPTY:
                self._incoming.write(data[start:end])
                start = end
                parts.append(self._take())
        except ssl.SSLZeroReturnError:
            start, ended = len(data), True
        except ssl.SSLError as error:
            self._flush()  # the TLS alert
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
        """Tell the protocol above that the client sends no more data."""
        if self._above is not None:
            self._above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol above that the connection is lost, and release everything."""
        self._timer.cancel()
        self._pending.remove(self)
        if self._above is None and not self._closing:
            self._refused("tls-failed", self._peer, detail=LEFT)
        self._closing = True
        if self._above is not None:
            self._above.connection_lost(exc)
            self._above = None

    def pause_writing(self) -> None:
        """Tell the protocol above that the write buffer is full."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol above that the write buffer has room again."""
        if self._above is not None:
            self._above.resume_writing()

    # As a transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol above."""
        self._above = cast(asyncio.Protocol, protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt data and write it. Nothing is buffered here, only in the TCP transport."""
        if self._ended or self.is_closing():
            return
        left = memoryview(data)
        while left:
            left = left[self._ssl.write(left) :]
        self._flush()

    def can_write_eof(self) -> bool:
        """Return True: TLS has close_notify (RFC 8446, 6.1), and TCP has FIN."""
        return True

    def write_eof(self) -> None:
        """Send close_notify, and wait for the client to close the connection.

        If a TCP connection is closed while data arrives, it is reset. The client then loses output that it has not
        read, such as the reason of a close.
        """
        self._goodbye()
        self._wire.write_eof()

    def close(self) -> None:
        """Send close_notify, and close the connection when all output is written."""
        if not self.is_closing():
            self._goodbye()
            self._closing = True
            self._wire.close()

    def abort(self, refusal: str = "") -> None:
        """Abort the connection.

        Args:
            refusal: the code under which it is counted and logged; empty if it is not.
        """
        if refusal and not self._closing:
            self._refused(refusal, self._peer)
        self._closing = True
        self._wire.abort()

    def is_closing(self) -> bool:
        """Return whether this transport or the TCP connection was closed."""
        return self._closing or self._wire.is_closing()

    def is_reading(self) -> bool:
        """Return whether reading is not paused."""
        return self._wire.is_reading()

    def pause_reading(self) -> None:
        """Pause reading. All data that was read is with the protocol above already."""
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._wire.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the write buffer, in bytes."""
        self._wire.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the bytes in the write buffer."""
        return self._wire.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the TCP connection."""
        return self._wire.get_extra_info(name, default)

    # Inside

    def _established(self) -> None:
        self._timer.cancel()
        self._pending.remove(self)
        self._flush()
        self._above = self._create()
        self._above.connection_made(self)

    def _take(self) -> bytes:
        """Process one record; return its data.

        Raises:
            ssl.SSLZeroReturnError: the record is a close_notify.
            ssl.SSLError: the record is not valid.
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
            with suppress(ssl.SSLError):  # `unwrap` wants the client's close_notify, too
                self._ssl.unwrap()
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._wire.write(data)


def _end(data: bytes, start: int) -> int:
    """Return the end of the record that begins at `start`. It may be beyond the data.

    Data that is not a record ends with the data, so that OpenSSL sees and refuses it at once.
    """
    header = data[start : start + HEADER]
    if header[:1] not in KINDS or header[1:2] not in (b"", VERSION):
        return len(data)
    if len(header) < HEADER:
        return start + HEADER
    size = int.from_bytes(header[3:], "big")
    return start + HEADER + size if size <= RECORD + OVERHEAD else len(data)
