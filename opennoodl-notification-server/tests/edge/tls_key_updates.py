"""Endless key updates: TLS 1.3 allows them at any time, and no library lets a client send them."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CIPHER = "TLS_AES_256_GCM_SHA384"
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
"""A message KeyUpdate (RFC 8446, 4.6.3)."""
HANDSHAKE, DATA = b"\x16", b"\x17"


class Keys:
    """The keys of a client whose library has sent nothing yet; tests encrypt with them by hand.

    Args:
        log: the file to which the library has written its secrets.
    """

    def __init__(self, log: Path) -> None:
        (secret,) = re.findall(r"^CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)$", log.read_text(), re.MULTILINE)
        self._use(bytes.fromhex(secret))

    def record(self, content: bytes, kind: bytes = DATA) -> bytes:
        """Return a record (RFC 8446, 5.2)."""
        inner = content + kind
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._count).to_bytes(12, "big")
        self._count += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def renew(self) -> bytes:
        """Return a record with a KeyUpdate, and switch to the next keys (RFC 8446, 7.2)."""
        record = self.record(KEY_UPDATE, HANDSHAKE)
        self._use(_expand(self._secret, b"traffic upd", 48))
        return record

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher, self._iv = AESGCM(_expand(secret, b"key", 32)), _expand(secret, b"iv", 12)
        self._count = 0


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """Derive a secret from another one (RFC 8446, 7.1)."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)
