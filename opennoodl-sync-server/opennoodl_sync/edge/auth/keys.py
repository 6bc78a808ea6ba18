"""Keys that verify tokens: one key from a setting, or the JWK Set that an issuer publishes (RFC 7517).

PyJWT reads the keys. Its own client for JWK Sets is not used, since it is synchronous and holds a lock during a
request. An issuer that does not answer would block the check of every token, even if its key is known.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from msgspec import Struct

from ..settings import SettingError, is_http_url
from .identity import AuthError

TIMEOUT = 5.0
"""Seconds in which an issuer must answer, and for which a client waits for it."""
MAX_ANSWER = 1_048_576
"""Bytes of the issuer's response."""
LIFESPAN = 300.0
"""Seconds after which published keys are fetched again."""
MAX_AGE = 3600.0
"""Seconds for which published keys are used while the issuer does not answer."""
COOLDOWN = 10.0
"""Seconds between two requests. Otherwise a client could cause any number of them with invented key ids."""
MIN_RSA_BITS = 2048
ACCEPTED = f"RSA with {MIN_RSA_BITS} bits or more, P-256, or Ed25519"
"""The accepted public keys."""

log = structlog.get_logger()


class Key(NamedTuple):
    """A key and the one algorithm that it is used with."""

    material: Any
    algorithm: str


def algorithm_of(material: object) -> str | None:
    """Return the one algorithm that a public key is used with; None if it is not an accepted public key."""
    match material:
        case RSAPublicKey(key_size=bits) if bits >= MIN_RSA_BITS:
            return "RS256"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    return None


class _Set(Struct):
    keys: list[Any]


class Keys(ABC):
    """A source of keys."""

    @abstractmethod
    async def find(self, key_id: object) -> Key:
        """Return the key that verifies a token.

        Args:
            key_id: the `kid` of the token's header, which may be of any type; None if it has none.

        Raises:
            AuthError: there is no such key, or the issuer does not answer.
        """

    async def close(self) -> None:
        """Close connections and cancel requests."""


class FixedKey(Keys):
    """One key for every key id."""

    def __init__(self, material: Any, algorithm: str) -> None:
        self._key = Key(material, algorithm)

    @property
    def material(self) -> Any:
        """The key itself."""
        return self._key.material

    async def find(self, key_id: object) -> Key:
        """Return the key."""
        return self._key


class JwksKeys(Keys):
    """The JWK Set under a URL. It is fetched when a token needs it, and again when it may have changed.

    Args:
        url: the URL.

    Raises:
        SettingError: the URL is not valid.
    """

    def __init__(self, url: str) -> None:
        if not is_http_url(url):
            raise SettingError("AUTH_JWKS_URL is not a usable URL; accepted is https://... or http://...")
        # Loaded only with AUTH_JWKS_URL, since httpx takes memory.
        import httpx

        from .http_client import fetch, new_client

        self._failures = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, msgspec.DecodeError, RecursionError)
        self._client = new_client(TIMEOUT, keep=0)
        self._fetch = fetch
        self._url = url
        self._question: asyncio.Task[None] | None = None
        self._keys: dict[str, Key] = {}
        self._got = self._asked = float("-inf")

    async def find(self, key_id: object) -> Key:
        """Return a published key. Without a key id, return the only published key."""
        if self._find(key_id) is None or monotonic() - self._got > LIFESPAN:
            under_way = self._question is not None and not self._question.done()
            if not under_way and monotonic() - self._asked > COOLDOWN:
                self._asked = monotonic()
                self._question = asyncio.create_task(self._ask())
            if self._question is not None:
                # `wait` does not cancel the request if this client disconnects: others wait for it too.
                await asyncio.wait([self._question], timeout=max(self._asked + TIMEOUT - monotonic(), 0))
        if monotonic() - self._got > MAX_AGE:
            raise AuthError(
                "The token issuer does not answer, so the token cannot be checked now; try again later.",
                "auth-unavailable",
            )
        key = self._find(key_id)
        if key is None:
            raise AuthError("The token is signed with a key that the issuer does not publish.", "token-signature")
        return key

    async def close(self) -> None:
        """Close the HTTP client."""
        if self._question is not None:
            self._question.cancel()
        await self._client.aclose()

    def _find(self, key_id: object) -> Key | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    async def _ask(self) -> None:
        try:
            answer = await self._fetch(self._client, self._url, TIMEOUT, MAX_ANSWER)
            self._keys = await asyncio.to_thread(_published, answer)
        except self._failures as error:
            log.warning("the keys of AUTH_JWKS_URL could not be read", error=str(error) or type(error).__name__)
        else:
            self._got = monotonic()


def _published(answer: bytes) -> dict[str, Key]:
    """Return the usable keys of a JWK Set by their ids. With many keys this takes long."""
    published = msgspec.json.decode(answer, type=_Set).keys
    keys = dict(filter(None, map(_usable, published)))
    if not keys:
        raise ValueError(f"the answer has no key for signatures with a `kid`; accepted is {ACCEPTED}")
    return keys


def _usable(jwk: Any) -> tuple[str, Key] | None:
    """Return the id and the key of an entry; None if the entry has another use, is too weak, or is no key."""
    try:
        key = PyJWK(jwk)
    except Exception:  # PyJWT and cryptography raise several types
        return None
    # The set is public, so only public keys are accepted: with a published secret, anyone could sign.
    algorithm = algorithm_of(key.key)
    for_signatures = key.public_key_use in ("sig", None) and algorithm == key.algorithm_name
    if algorithm is None or not for_signatures or not isinstance(key.key_id, str) or not key.key_id:
        return None
    return key.key_id, Key(key.key, algorithm)
