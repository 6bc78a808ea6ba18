"""Certificates for tests, and a TLS client that sends any bytes."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from .harness import TIMEOUT, Raw


class Files(NamedTuple):
    """The paths of a certificate for localhost and its key.

    Attributes:
        serial: the number by which this certificate is told from others.
    """

    certificate: Path
    key: Path
    serial: int

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a server with this certificate."""
        return {"tls_cert": str(self.certificate), "tls_key": str(self.key)}

    @property
    def client(self) -> ssl.SSLContext:
        """The TLS context of a client that trusts only this certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))


def certify(folder: Path, password: bytes = b"") -> Files:
    """Make a certificate and its key in a folder; replace existing ones.

    Args:
        folder: where to; it is made if need be.
        password: of the key, if it has one.
    """
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Files(folder / "certificate.pem", folder / "key.pem", certificate.serial_number)
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return files


class RawTls(Raw):
    """A `Raw` client on TLS. The handshake begins with the first bytes that are sent, or with `shake`."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def shake(self) -> None:
        """Do the TLS handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await super().send(self._out.read())
                assert await self.feed(), "the connection ended within the TLS handshake"
            else:
                await super().send(self._out.read())
                return

    def hello(self) -> bytes:
        """Return the ClientHello."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._out.read()
        raise AssertionError("nobody has answered")

    async def send(self, data: bytes) -> None:
        """Send bytes, encrypted."""
        if self.tls.version() is None:
            await self.shake()
        left = memoryview(data)
        while left:
            left = left[self.tls.write(left) :]
        await super().send(self._out.read())

    async def send_plain(self, data: bytes) -> None:
        """Send bytes without encryption."""
        await super().send(data)

    async def _more(self) -> bool:
        while True:
            try:
                data = self.tls.read(1 << 20)
            except ssl.SSLWantReadError:
                if not await self.feed():
                    return False
            else:
                self._buffer += data
                return bool(data)

    async def goodbye(self) -> None:
        """End TLS, and keep the TCP connection open."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await super().send(self._out.read())

    async def feed(self) -> bool:
        """Read the next bytes of the server; return False if the connection has ended."""
        try:
            async with asyncio.timeout(TIMEOUT):
                data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
        except ConnectionError:
            return False
        self._in.write(data)
        return bool(data)
