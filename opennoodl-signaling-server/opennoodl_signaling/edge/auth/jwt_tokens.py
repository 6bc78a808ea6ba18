"""Tokens: JSON Web Tokens that prove a user, and where their keys come from (RFC 7519, RFC 8725).

Which algorithm a token is checked with is decided by the key and never by the token.
"""

from __future__ import annotations

from time import time
from typing import Annotated, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)
from msgspec import Meta, Struct

from ..settings import EdgeSettings, SettingError
from .identity import Access, AuthError, Identity, Name
from .keys import ACCEPTED, FixedKey, JwksKeys, Keys, algorithm_of

LEEWAY = 30
"""Seconds by which the clocks of those who sign and of this server may differ."""
MIN_SECRET = 32
"""Characters of a secret; RFC 7518, 3.2 asks for as many bytes as the hash has."""
LAST_SECOND = 253_402_300_799
"""The end of the year 9999; who counts in milliseconds by mistake is told so."""


class _Claims(Struct, frozen=True):
    """The claims that are looked at; others are ignored."""

    sub: Name
    exp: Annotated[float, Meta(gt=0, le=LAST_SECOND)]
    rooms: Annotated[tuple[Name, ...], Meta(max_length=256)] = ("*",)
    access: Access = "write"
    services: bool = False


class JwtTokens:
    """Checks tokens.

    Args:
        keys: where the keys come from.
        issuer: what `iss` must be; empty for anything.
        audience: what must be in `aud`; empty for anything.
    """

    def __init__(self, keys: Keys, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer or None
        self._audience = audience or None

    async def close(self) -> None:
        """Close what the keys were asked for with."""
        await self._keys.close()

    async def identify(self, token: str) -> Identity:
        """Return whom a token proves.

        Raises:
            AuthError: nobody.
        """
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError:
            raise AuthError("The token is not a JSON Web Token.") from None
        key = await self._keys.find(header.get("kid"))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
            known = msgspec.convert(claims, _Claims)
        except ExpiredSignatureError:
            raise AuthError("The token has expired.", "token-expired") from None
        except ImmatureSignatureError:
            raise AuthError("The token is not valid yet.", "token-not-yet-valid") from None
        except (InvalidIssuerError, InvalidAudienceError):
            text = "The token has another `iss` or `aud` than this server requires."
            raise AuthError(text, "token-audience") from None
        except (InvalidSignatureError, InvalidAlgorithmError):
            raise AuthError("The token is not signed with the key of this server.", "token-signature") from None
        except MissingRequiredClaimError as error:
            raise AuthError(f"The token lacks the claim `{error.claim}`.") from None
        except PyJWTError:
            raise AuthError("The token is not valid.") from None
        except msgspec.ValidationError as error:
            raise AuthError(f"The token has an invalid claim: {error}.") from None
        return Identity(known.sub, known.rooms, known.access, known.services, known.exp + LEEWAY)


def mint(settings: EdgeSettings, claims: dict[str, Any], seconds: float) -> str:
    """Return a token that servers with the same settings accept.

    Args:
        settings: with the secret, and the issuer and the audience that are asked for.
        claims: `sub`, and `rooms`, `access` and `services` where they are not the default.
        seconds: for which it is good.

    Raises:
        SettingError: there is no secret to sign with.
    """
    if not settings.auth_secret:
        raise SettingError("AUTH_SECRET is not set; the command `token` signs with it")
    now = int(time())
    more = {"iss": settings.auth_issuer, "aud": settings.auth_audience}
    claims = {**claims, "iat": now, "exp": now + seconds, **{name: value for name, value in more.items() if value}}
    return jwt.encode(claims, _secret(settings.auth_secret).material, algorithm="HS256")


def choose_keys(settings: EdgeSettings) -> Keys:
    """Return the keys that the settings name.

    Raises:
        SettingError: they name no usable ones, or more than one source.
    """
    sources = {
        "AUTH_SECRET": settings.auth_secret,
        "AUTH_PUBLIC_KEY": settings.auth_public_key,
        "AUTH_JWKS_URL": settings.auth_jwks_url,
    }
    named = [name for name, value in sources.items() if value]
    if len(named) > 1:
        raise SettingError(f"{' and '.join(named)} are set; set only one of them")
    if settings.auth_secret:
        return _secret(settings.auth_secret)
    if settings.auth_public_key:
        return _public_key(settings.auth_public_key)
    return JwksKeys(settings.auth_jwks_url)


def _secret(secret: str) -> FixedKey:
    if len(secret) < MIN_SECRET:
        raise SettingError(f"AUTH_SECRET is too short; accepted are {MIN_SECRET} characters or more")
    return FixedKey(secret.encode(), "HS256")


def _public_key(pem: str) -> FixedKey:
    # Where a value has one line only, as in an env file, its line ends are written as \n.
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except Exception:  # cryptography raises several kinds, and none may show what was in the setting
        key = None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise SettingError(f"AUTH_PUBLIC_KEY cannot be read; accepted is a public key in PEM: {ACCEPTED}")
    return FixedKey(key, algorithm)
