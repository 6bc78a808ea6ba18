"""A token proves what its key signed, for as long as it says, and nothing else proves anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from time import time
from typing import Any

import pytest

from ..harness import identity, jwt_tokens, settings
from ..issuer import OTHER_SECRET, PRIVATE, SECRET, pem, signed

Identity: Any = identity.Identity


def checker(**values: Any) -> Any:
    """Return what checks tokens with these settings."""
    chosen = settings.EdgeSettings(**{"auth_secret": SECRET, **values})
    return jwt_tokens.JwtTokens(jwt_tokens.choose_keys(chosen), chosen.auth_issuer, chosen.auth_audience)


async def refusal(token: str, **values: Any) -> str:
    """Return what the one who shows a token is told."""
    with pytest.raises(identity.AuthError) as info:
        await checker(**values).identify(token)
    assert info.value.code == "unauthorized"
    return str(info.value)


def segment(content: Any) -> str:
    """Return a part of a token."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: dict[str, Any], key: bytes = b"") -> str:
    """Return a token with any header, signed by hand with HMAC where there is a key."""
    text = f"{segment(header)}.{segment({'sub': 'ann', 'exp': int(time()) + 60})}"
    return f"{text}.{segment(hmac.digest(key, text.encode(), hashlib.sha256)) if key else ''}"


async def test_missing_claims_have_defaults() -> None:
    """`sub` is the user; without other claims they may write in every room and are no service."""
    found = await checker().identify(signed(exp=4_000_000_000))
    assert found == Identity("ann", ("*",), "write", False, 4_000_000_000 + jwt_tokens.LEEWAY)


async def test_claims_set_rooms_access_and_service() -> None:
    """Rooms, access and services are what the claims say; claims of others do not matter."""
    found = await checker().identify(signed(rooms=["a-*", "b"], access="read", services=True, scope="x", iat=1))
    assert (found.rooms, found.access, found.services) == (("a-*", "b"), "read", True)


async def test_empty_list_of_rooms_allows_no_room() -> None:
    """An empty list of rooms is no room, not every room."""
    assert not (await checker().identify(signed(rooms=[]))).allows("a")


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_token_of_the_private_key_is_accepted(algorithm: str) -> None:
    """With a public key, what its private key signed is accepted; its line ends may be escaped."""
    token = signed(PRIVATE[algorithm], algorithm)
    for text in (pem(PRIVATE[algorithm]), pem(PRIVATE[algorithm]).replace("\n", "\\n")):
        found = await checker(auth_secret="", auth_public_key=text).identify(token)
        assert found.user == "ann"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_secret_accepts_only_hs256(algorithm: str) -> None:
    """A secret is for HS256 and for no other algorithm."""
    long = SECRET * 2
    assert (
        await refusal(signed(long, algorithm), auth_secret=long)
        == "The token is not signed with the key of this server."
    )


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_token_signed_with_the_public_key_as_a_secret_is_refused(algorithm: str) -> None:
    """A token that is signed with the public key as if that were a secret is refused."""
    text = pem(PRIVATE[algorithm])
    token = forged({"alg": "HS256", "typ": "JWT"}, text.encode())
    assert (
        await refusal(token, auth_secret="", auth_public_key=text)
        == "The token is not signed with the key of this server."
    )


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, 0, ["HS256"]])
async def test_token_without_a_signature_is_refused(name: Any) -> None:
    """A token that says it needs no signature is refused, however it says so."""
    assert "token" in await refusal(forged({"alg": name}))
    assert "token" in await refusal(forged({"alg": name}, SECRET.encode()))


async def test_forged_token_is_refused() -> None:
    """A token with another secret's signature, or with changed claims, is refused."""
    head, _, signature = signed().split(".")
    body = segment({"sub": "bob", "exp": int(time()) + 60})
    for token in (signed(OTHER_SECRET), f"{head}.{body}.{signature}"):
        assert await refusal(token) == "The token is not signed with the key of this server."


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "e30.e30.e30", "eyJhbGciOiJIUzI1NiJ9..", "ann" * 1000])
async def test_text_that_is_no_token_is_refused_without_repeating_it(token: str) -> None:
    """An invalid token is refused in one sentence that does not repeat it."""
    said = await refusal(token)
    assert said.startswith("The token is ")
    assert said.count(".") == 1


@pytest.mark.parametrize("name", ["sub", "exp"])
async def test_token_without_user_or_expiry_is_refused(name: str) -> None:
    """A token without a user or without an end is refused."""
    assert await refusal(signed(**{name: None})) == f"The token lacks the claim `{name}`."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", ""),
        ("sub", "a" * 257),
        ("rooms", "all"),
        ("rooms", [1]),
        ("rooms", ["a"] * 257),
        ("access", "admin"),
        ("services", "yes"),
        ("exp", 4_000_000_000_000),
    ],
)
async def test_invalid_claim_is_named(name: str, value: Any) -> None:
    """A claim that is not as it should be is named, and never taken for its default."""
    assert f"$.{name}" in await refusal(signed(**{name: value}))


@pytest.mark.parametrize("exp", [1, int(time()) - jwt_tokens.LEEWAY - 1], ids=["long ago", "just now"])
async def test_expired_token_is_refused(exp: int) -> None:
    """A token that has expired is refused, and told so."""
    assert await refusal(signed(exp=exp)) == "The token has expired."


async def test_clocks_may_differ_a_little() -> None:
    """Clocks may differ a little: a token that has just expired, or was just issued in the future, is accepted."""
    now = int(time())
    assert (await checker().identify(signed(exp=now - 5, iat=now + 5, nbf=now + 5))).user == "ann"


async def test_token_that_is_not_valid_yet_is_refused() -> None:
    """A token that is not valid yet is refused, and told so."""
    assert await refusal(signed(nbf=int(time()) + 3600)) == "The token is not valid yet."


@pytest.mark.parametrize("claims", [{}, {"iss": "b"}, {"iss": "a", "aud": "d"}, {"iss": "a"}])
async def test_wrong_issuer_or_audience_is_refused(claims: dict[str, Any]) -> None:
    """A token of another issuer, or one meant for somebody else, is refused where these are set."""
    assert "token" in await refusal(signed(**claims), auth_issuer="a", auth_audience="c")


@pytest.mark.parametrize("audience", ["c", ["b", "c"]])
async def test_right_issuer_and_audience_are_accepted(audience: Any) -> None:
    """A token of the right issuer and for the right audience is accepted; without settings, for any audience."""
    token = signed(iss="a", aud=audience)
    assert (await checker(auth_issuer="a", auth_audience="c").identify(token)).user == "ann"
    assert (await checker().identify(token)).user == "ann"


async def test_minted_token_is_accepted_with_the_same_settings() -> None:
    """A minted token is accepted by a server with the same settings."""
    chosen = settings.EdgeSettings(auth_secret=SECRET, auth_issuer="a", auth_audience="c")
    token = jwt_tokens.mint(chosen, {"sub": "bob", "rooms": ["x"]}, 60)
    found = await checker(auth_issuer="a", auth_audience="c").identify(token)
    assert (found.user, found.rooms) == ("bob", ("x",))
    assert 0 < found.expires - jwt_tokens.LEEWAY - time() <= 60


def test_minting_without_a_secret_names_the_setting() -> None:
    """Without a secret nothing can be minted, and the setting is named."""
    with pytest.raises(settings.SettingError, match=r"^AUTH_SECRET is not set"):
        jwt_tokens.mint(settings.EdgeSettings(), {"sub": "bob"}, 60)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"auth_secret": "hush"}, "AUTH_SECRET is too short; accepted are 32 characters or more"),
        ({"auth_secret": SECRET, "auth_jwks_url": "https://a"}, "AUTH_SECRET and AUTH_JWKS_URL are set;"),
        ({"auth_public_key": "hush"}, "AUTH_PUBLIC_KEY cannot be read;"),
        ({"auth_jwks_url": "file:///etc/passwd"}, "AUTH_JWKS_URL is not a usable URL;"),
        ({"auth_jwks_url": "https:/hush"}, "AUTH_JWKS_URL is not a usable URL;"),
        ({"auth_jwks_url": "https://[::1"}, "AUTH_JWKS_URL is not a usable URL;"),
        ({"auth_jwks_url": "https://hush:99999"}, "AUTH_JWKS_URL is not a usable URL;"),
    ],
)
def test_unusable_keys_are_refused_without_their_contents(values: dict[str, str], line: str) -> None:
    """Unusable keys are refused with the name of the setting and without their contents."""
    with pytest.raises(settings.SettingError) as info:
        jwt_tokens.choose_keys(settings.EdgeSettings(**values))
    assert str(info.value).startswith(line)
    assert not any(value in str(info.value) for value in values.values())


def test_weak_or_private_keys_are_refused() -> None:
    """A public key that is too short, or of a curve with another algorithm, is refused; so is a private key."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    short = pem(rsa.generate_private_key(65537, 1024))  # noqa: S505
    other = pem(ec.generate_private_key(ec.SECP384R1()))
    private = PRIVATE["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text in (short, other, private):
        with pytest.raises(settings.SettingError, match=r"^AUTH_PUBLIC_KEY cannot be read; accepted is"):
            jwt_tokens.choose_keys(settings.EdgeSettings(auth_public_key=text))
