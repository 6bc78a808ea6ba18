"""The keys: what tokens are checked with. One that is set, or those that an issuer publishes (RFC 7517)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from jwt import PyJWKClient
from jwt.exceptions import PyJWTError

from .identity import AuthError
from .settings import SettingError

TIMEOUT = 5.0
"""Seconds that an issuer has to answer."""
LIFESPAN = 300.0
"""Seconds for which published keys are taken to be the current ones."""
MAX_AGE = 3600.0
"""Seconds for which they are used if the issuer cannot be asked."""
COOLDOWN = 10.0
"""Seconds between two questions: with made-up key ids, anybody could have it asked as often as they like."""
PUBLIC = frozenset({"RS256", "ES256", "EdDSA"})
"""The algorithms with a public key. What an issuer publishes is no secret, so nothing else may be signed with it."""

log = structlog.get_logger()


class Key(NamedTuple):
    """A key and the one algorithm it is for."""

    material: Any
    algorithm: str


class Keys(ABC):
    """Where keys come from."""

    @abstractmethod
    async def find(self, key_id: object) -> Key:
        """Return the key that signed a token whose header has `key_id`, or None, as its `kid`.

        Raises:
            AuthError: there is none.
        """


class FixedKey(Keys):
    """One key, whatever it is called."""

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
    """What an issuer publishes under a URL: asked when it is needed, again when it may have changed.

    Raises:
        SettingError: the URL is none.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise SettingError("AUTH_JWKS_URL is no URL that can be asked; accepted is https://... or http://...")
        self._client = PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._asking = asyncio.Lock()
        self._keys: dict[str | None, Key] = {}
        self._got = self._asked = float("-inf")

    async def find(self, key_id: object) -> Key:
        """Return a published key; a token that names none is of the only one there is."""
        if self._find(key_id) is None or monotonic() - self._got > LIFESPAN:
            async with self._asking:
                if monotonic() - self._asked > COOLDOWN:
                    await self._ask()
        if monotonic() - self._got > MAX_AGE:
            raise AuthError("Tokens cannot be checked just now; try again later.", "auth-unavailable")
        key = self._find(key_id)
        if key is None:
            raise AuthError("The token is signed with a key that is not known here.")
        return key

    def _find(self, key_id: object) -> Key | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    async def _ask(self) -> None:
        self._asked = monotonic()
        try:
            published = await asyncio.to_thread(self._client.get_signing_keys)
        except (PyJWTError, OSError, ValueError) as error:
            log.warning("the keys of AUTH_JWKS_URL could not be read", error=str(error))
            return
        self._got = monotonic()
        self._keys = {key.key_id: Key(key.key, key.algorithm_name) for key in published if key.algorithm_name in PUBLIC}
