"""JSON Web Tokens (RFC 7519, RFC 8725): checking and signing them, and choosing the keys from the settings.

The key determines the algorithm of the signature, never the token.
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
"""Seconds by which the clocks of the issuer and of this server may differ."""
MIN_SECRET = 32
"""Characters that a secret must have; RFC 7518, 3.2 requires as many bytes as the hash has."""
LAST_SECOND = 253_402_300_799
"""The end of the year 9999, in seconds since 1970. It also refuses an `exp` in milliseconds."""


class _Claims(Struct, frozen=True):
    """The claims that the server reads; it ignores others."""

    sub: Name
    exp: Annotated[float, Meta(gt=0, le=LAST_SECOND)]
    rooms: Annotated[tuple[Name, ...], Meta(max_length=256)] = ("*",)
    access: Access = "write"
    services: bool = False


class JwtTokens:
    """Checks tokens.

    Args:
        keys: the source of keys.
        issuer: the required `iss`; empty accepts any.
        audience: the required `aud`; empty accepts any.
    """

    def __init__(self, keys: Keys, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer or None
        self._audience = audience or None

    async def close(self) -> None:
        """Close the source of keys."""
        await self._keys.close()

    async def identify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Raises:
            AuthError: the token is not valid, or its key cannot be found now.
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
        settings: the secret, and the required issuer and audience.
        claims: `sub`, and `rooms`, `access` and `services` if they differ from the default.
        seconds: the lifetime of the token.

    Raises:
        SettingError: `AUTH_SECRET` is not set, or is too short.
    """
    if not settings.auth_secret:
        raise SettingError("AUTH_SECRET is not set; the command `token` signs with it")
    now = int(time())
    more = {"iss": settings.auth_issuer, "aud": settings.auth_audience}
    claims = {**claims, "iat": now, "exp": now + seconds, **{name: value for name, value in more.items() if value}}
    return jwt.encode(claims, _secret(settings.auth_secret).material, algorithm="HS256")


def choose_keys(settings: EdgeSettings) -> Keys:
    """Return the source of keys that the settings name.

    Raises:
        SettingError: the key is not usable, or more than one source is set.
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
    # In an env file a value has one line, so its line breaks are written as \n.
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except Exception:  # cryptography raises several types; none may reveal the setting
        key = None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise SettingError(f"AUTH_PUBLIC_KEY cannot be read; accepted is a public key in PEM: {ACCEPTED}")
    return FixedKey(key, algorithm)
