"""The issuer of tokens for servers with authentication."""

from __future__ import annotations

from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ISSUER, AUDIENCE = "https://issuer.example", "editors"
SETTINGS = {"AUTH": "jwt", "AUTH_PUBLIC_KEY": PUBLIC, "AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": AUDIENCE}
"""The secret of a server that trusts this issuer."""


def claims(sub: str, **more: Any) -> dict[str, Any]:
    """Return the claims of a valid token; `more` replaces some, and None removes one."""
    every = {"sub": sub, "exp": int(time()) + 3600, "iss": ISSUER, "aud": AUDIENCE, **more}
    return {name: value for name, value in every.items() if value is not None}


def signed(sub: str, **more: Any) -> str:
    """Return a valid token of a user."""
    return jwt.encode(claims(sub, **more), KEY, algorithm="EdDSA")
