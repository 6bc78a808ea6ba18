"""Authentication lets in whoever proves to be somebody, in the way that is set, and nobody else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from ..harness import authenticator, credential, identity, settings
from ..issuer import SECRET, Loopback, signed

HERE = "192.0.2.1"


def made(**values: Any) -> Any:
    """Return authentication with these settings, and what it counts."""
    return authenticator.Authenticator(settings.EdgeSettings(**values), Counter())


def jwt(**values: Any) -> Any:
    """Return authentication with tokens."""
    return made(**{"auth": "jwt", "auth_secret": SECRET, **values})


@pytest.fixture
async def api() -> AsyncIterator[Loopback]:
    """Run what stands for GitHub's API."""
    api = Loopback()
    await api.start()
    yield api
    await api.stop()


async def refusal(auth_: Any, token: str, address: str = HERE) -> tuple[str, str]:
    """Return code and text of what the one who shows a token is told."""
    with pytest.raises(identity.AuthError) as info:
        await auth_.identify(token, address)
    return info.value.code, str(info.value)


def test_no_proof_is_needed_by_default() -> None:
    """Nobody has to prove anything by default."""
    assert not made().required


URL = "https://issuer.example/jwks"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [authenticator.OPEN]),
        ({"auth": "jwt", "auth_secret": SECRET}, []),
        ({"auth": "jwt", "auth_jwks_url": URL}, [authenticator.ANY_AUDIENCE]),
        ({"auth": "jwt", "auth_jwks_url": URL, "auth_issuer": "https://issuer.example"}, [authenticator.ANY_AUDIENCE]),
        ({"auth": "jwt", "auth_jwks_url": URL, "auth_audience": "editors"}, []),
    ],
)
def test_missing_authentication_and_audience_are_warned_of(values: dict[str, str], expected: list[str]) -> None:
    """A warning says that nobody proves anything, or that tokens for other applications do."""
    assert made(**values).warnings == expected


async def test_signed_token_proves_its_user() -> None:
    """A signed token proves its user."""
    proving = jwt()
    assert proving.required
    assert (await proving.identify(signed(), HERE)).user == "ann"
    assert proving._outcomes == {"accepted": 1}


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "é", "\x00", "a" * 8001, "=", "\ud800"])
async def test_value_that_cannot_be_a_token_is_sent_nowhere(api: Loopback, token: str) -> None:
    """A value that cannot be a token is sent to no other server."""
    proving = made(auth="github", github_api_url=api.url)
    assert "tokens cannot have" in (await refusal(proving, token))[1]
    assert api.asked == []
    await proving.close()


async def test_github_token_proves_its_login(api: Loopback) -> None:
    """A token of GitHub's proves its login; a signed one is nothing to GitHub or to us without a key."""
    api.answer = (200, {"login": "ann"})
    proving = made(auth="github", github_api_url=api.url)
    assert (await proving.identify("gho_abc", HERE)).user == "ann"
    api.answer = (401, {})
    assert await refusal(proving, signed(sub="bob")) == ("unauthorized", "GitHub does not know this token.")
    await proving.close()


async def test_github_and_signed_tokens_are_accepted_together(api: Loopback) -> None:
    """With a secret beside GitHub, what it signed is accepted too, without asking GitHub."""
    api.answer = (200, {"login": "ann"})
    proving = made(auth="github", github_api_url=api.url, auth_secret=SECRET)
    assert (await proving.identify("gho_abc", HERE)).user == "ann"
    assert (await proving.identify(signed(sub="bob", services=True), HERE)).services
    assert len(api.asked) == 1
    await proving.close()


async def test_unchecked_tokens_are_counted_as_unavailable(api: Loopback) -> None:
    """Tokens that cannot be checked are counted as such."""
    api.answer = (500, {})
    proving = made(auth="github", github_api_url=api.url)
    assert (await refusal(proving, "gho_abc"))[0] == "auth-unavailable"
    assert proving._outcomes == {"unavailable": 1}
    await proving.close()


async def test_close_ends_checks_under_way(api: Loopback) -> None:
    """Token checks under way end with an error when the server stops."""
    api.goes_on.clear()
    proving = made(auth="github", github_api_url=api.url)
    asking = asyncio.create_task(proving.identify("gho_abc", HERE))
    await api.until_asked(1)
    await proving.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"auth": "jwt"}, "AUTH is jwt, but no key is set; set one of AUTH_SECRET, AUTH_PUBLIC_KEY, AUTH_JWKS_URL"),
        ({"auth_secret": SECRET}, "AUTH_SECRET is set, but AUTH is none;"),
        ({"auth_jwks_url": "https://a.example"}, "AUTH_JWKS_URL is set, but AUTH is none;"),
    ],
)
def test_contradicting_settings_stop_the_start(values: dict[str, str], line: str) -> None:
    """Settings that contradict each other do not start."""
    with pytest.raises(settings.SettingError) as info:
        made(**values)
    assert str(info.value).startswith(line)


@pytest.mark.parametrize(
    ("path", "headers", "token"),
    [
        ("/", {}, None),
        ("/?token=a.b-c_d", {}, "a.b-c_d"),
        ("/?x=1&token=a%2Bb&token=c", {}, "a+b"),
        ("/?token=", {}, None),
        ("/?tokens=a", {}, None),
        ("/token=a", {}, None),
        ("/", {"Authorization": "Bearer a"}, "a"),
        ("/", {"authorization": "bearer  a "}, "a"),
        ("/?token=b", {"Authorization": "Bearer a"}, "a"),
        ("/?token=b", {"Authorization": "Basic a"}, "b"),
        ("/", {"Authorization": "Bearer"}, ""),
        ("/", {"Sec-WebSocket-Protocol": "opennoodl.token.a.b-c_d"}, "a.b-c_d"),
        ("/?token=b", {"Sec-WebSocket-Protocol": "yjs , opennoodl.token.a, opennoodl.token.c"}, "a"),
        ("/?token=b", {"Sec-WebSocket-Protocol": "opennoodl.tokens, yjs"}, "b"),
        ("/", {"Sec-WebSocket-Protocol": "opennoodl.token.a", "Authorization": "Bearer b"}, "b"),
    ],
)
def test_first_credential_of_a_request_counts(path: str, headers: dict[str, str], token: str | None) -> None:
    """A request brings a token as a bearer token, in a subprotocol or in its query; the first of these counts."""
    assert credential.credential(Request(path, Headers(headers))) == token
