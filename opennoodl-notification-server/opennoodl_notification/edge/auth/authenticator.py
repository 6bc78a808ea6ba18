"""Authentication: turns a token into the user that it proves. ``AUTH`` chooses the kind of token."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ..admission.address_limits import rate_limit_key
from ..settings import EdgeSettings, SettingError
from .identity import AuthError, Identity

if TYPE_CHECKING:
    from .github import GitHub
    from .jwt_tokens import JwtTokens

KEYS = ("AUTH_SECRET", "AUTH_PUBLIC_KEY", "AUTH_JWKS_URL")
"""The settings for keys; one of them must be set with ``AUTH=jwt``."""
ATTEMPTS = 5
"""Invalid tokens that one connection may send before it is closed with 1008."""
OPEN = (
    "AUTH is none: any client that reaches this server can act as any user. "
    "Set AUTH to jwt or github to authenticate users."
)
"""The warning of a server without authentication."""
ANY_AUDIENCE = (
    "AUTH_AUDIENCE is not set: a token that the issuer of AUTH_JWKS_URL made for another application is accepted too. "
    "Set AUTH_AUDIENCE to the `aud` claim of the tokens for this server."
)
"""The warning of a server that accepts tokens for any audience (RFC 8725, 3.9)."""

# The syntax of RFC 6750, 2.1, at most as long as a request line may be.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8000}=*")


class Authenticator:
    """Checks tokens and returns the users that they prove.

    Args:
        settings: `AUTH` and the settings for keys.
        outcomes: counts the tokens that are `accepted` or `refused`, or cannot be checked (`unavailable`).

    Attributes:
        required: whether clients must send a token.
        warnings: risks of the settings, one sentence or two each, for the operator.

    Raises:
        SettingError: a key is missing, or settings contradict each other.
    """

    def __init__(self, settings: EdgeSettings, outcomes: Counter[str]) -> None:
        self.required = settings.auth != "none"
        self.warnings = [] if self.required else [OPEN]
        if settings.auth_jwks_url and not settings.auth_audience:
            self.warnings.append(ANY_AUDIENCE)
        self._outcomes = outcomes
        self._tokens: JwtTokens | None = None
        self._github: GitHub | None = None
        keys = [name for name in KEYS if getattr(settings, name.lower())]
        if settings.auth == "none" and keys:
            raise SettingError(f"{keys[0]} is set, but AUTH is none; set AUTH to jwt or github, or unset {keys[0]}")
        if settings.auth == "jwt" and not keys:
            raise SettingError(f"AUTH is jwt, but no key is set; set one of {', '.join(KEYS)}")
        # PyJWT and cryptography take 9 MB, which is a quarter of the memory of a server without them.
        if keys:
            from .jwt_tokens import JwtTokens, choose_keys

            self._tokens = JwtTokens(choose_keys(settings), settings.auth_issuer, settings.auth_audience)
        if settings.auth == "github":
            from .github import GitHub

            self._github = GitHub(settings.github_api_url)

    async def close(self) -> None:
        """Close the HTTP clients."""
        if self._tokens is not None:
            await self._tokens.close()
        if self._github is not None:
            await self._github.close()

    async def identify(self, token: str, address: str) -> Identity:
        """Return the identity that a token proves.

        Args:
            token: the token.
            address: the IP address of the client that sent it.

        Raises:
            AuthError: the token is not valid, or cannot be checked now; the text says why.
        """
        try:
            identity = await self._identify(token, address)
        except AuthError as error:
            self._outcomes["refused" if error.code == "unauthorized" else "unavailable"] += 1
            raise
        self._outcomes["accepted"] += 1
        return identity

    async def _identify(self, token: str, address: str) -> Identity:
        if not _TOKEN.fullmatch(token):
            raise AuthError("The token is too long or has characters that tokens cannot have.")
        # A JSON Web Token begins with `eyJ`, which is `{"` in base64. GitHub's tokens have other prefixes.
        if self._tokens is not None and (self._github is None or token.startswith("eyJ")):
            return await self._tokens.identify(token)
        assert self._github is not None
        return await self._github.identify(token, rate_limit_key(address))
