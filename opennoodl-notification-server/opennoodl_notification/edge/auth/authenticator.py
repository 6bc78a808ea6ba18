"""Authentication: who is let in as whom. ``AUTH`` says how that is proven."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ..admission.client_address import rate_limit_key
from ..settings import EdgeSettings, SettingError
from .identity import AuthError, Identity

if TYPE_CHECKING:
    from .github import GitHub
    from .jwt_tokens import JwtTokens

KEYS = ("AUTH_SECRET", "AUTH_PUBLIC_KEY", "AUTH_JWKS_URL")
"""The settings of which one says whose tokens are believed."""
ATTEMPTS = 5
"""Invalid tokens that one connection may show before it is closed with 1008."""
OPEN = (
    "AUTH is none: any client that reaches this server can act as any user. "
    "Set AUTH to jwt or github to authenticate users."
)
"""What a server without authentication says of itself."""
ANY_AUDIENCE = (
    "AUTH_AUDIENCE is not set: a token that the issuer of AUTH_JWKS_URL made for another application is accepted too. "
    "Set AUTH_AUDIENCE to the `aud` claim of the tokens for this server."
)
"""What one says of itself that cannot tell whom a token was made for (RFC 8725, 3.9)."""

# RFC 6750, 2.1, and no longer than a request's line may be.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8000}=*")


class Authenticator:
    """Finds out who shows a token.

    Args:
        settings: how.
        outcomes: counts the tokens that were `accepted` or `refused`, or could not be checked (`unavailable`).

    Attributes:
        required: whether anybody has to prove anything.
        warnings: what who runs this server should know of the settings.

    Raises:
        SettingError: the settings do not say, or contradict each other.
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
        # What these need takes 9 MB, which is a quarter of a server that does without.
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
        """Return whom a token proves.

        Args:
            token: what was shown.
            address: where it comes from.

        Raises:
            AuthError: nobody; the text says why.
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
        # GitHub's own tokens begin with a prefix of theirs, and JSON in base64 with this.
        if self._tokens is not None and (self._github is None or token.startswith("eyJ")):
            return await self._tokens.identify(token)
        assert self._github is not None
        return await self._github.identify(token, rate_limit_key(address))
