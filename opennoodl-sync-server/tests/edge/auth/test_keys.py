"""Published keys are asked for when they are needed, follow their issuer's changes, and outlast its absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from ..clock import Clock
from ..conftest import Configure
from ..harness import TIMEOUT, http_client, identity, jwt_tokens, keys
from ..issuer import PRIVATE, Loopback, pem, published, signed


@pytest.fixture
async def issuer() -> AsyncIterator[Loopback]:
    """Run an issuer."""
    issuer = Loopback()
    await issuer.start()
    yield issuer
    await issuer.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the test say what time it is."""
    clock = Clock()
    monkeypatch.setattr(keys, "monotonic", clock)
    return clock


def checker(issuer: Loopback) -> Any:
    """Return what checks tokens with the issuer's keys."""
    return jwt_tokens.JwtTokens(keys.JwksKeys(f"{issuer.url}/jwks"), "", "")


def token(key_id: str | None, algorithm: str = "ES256") -> str:
    """Return a token whose header names a key."""
    return signed(PRIVATE[algorithm], algorithm, {"kid": key_id} if key_id else None)


async def refusal(tokens_: Any, token: str) -> tuple[str, str]:
    """Return code and text of what the one who shows a token is told."""
    with pytest.raises(identity.AuthError) as info:
        await tokens_.identify(token)
    return info.value.code, str(info.value)


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_token_of_a_published_key_is_accepted(issuer: Loopback, algorithm: str) -> None:
    """A token signed with a published key is accepted; the issuer is asked once for many tokens."""
    issuer.answer = (200, published(one=PRIVATE[algorithm]))
    check = checker(issuer)
    for _ in range(3):
        assert (await check.identify(token("one", algorithm))).user == "ann"
    assert len(issuer.asked) == 1


async def test_nobody_asks_at_first(issuer: Loopback) -> None:
    """Nothing is asked before there is a token, so an issuer that is down keeps no server from starting."""
    checker(issuer)
    await asyncio.sleep(0)
    assert issuer.asked == []


async def test_concurrent_tokens_share_one_request(issuer: Loopback) -> None:
    """Many tokens that come while the issuer is asked wait for one answer."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    issuer.goes_on.clear()
    check = checker(issuer)
    waiting = [asyncio.create_task(check.identify(token("one"))) for _ in range(20)]
    await issuer.until_asked(1)
    issuer.goes_on.set()
    assert {found.user for found in await asyncio.gather(*waiting)} == {"ann"}
    assert len(issuer.asked) == 1


async def test_token_without_a_key_id_uses_the_only_key(issuer: Loopback) -> None:
    """A token that names no key is of the only one there is, and of none where there are several."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    assert (await checker(issuer).identify(token(None))).user == "ann"
    issuer.answer = (200, published(one=PRIVATE["ES256"], two=PRIVATE["EdDSA"]))
    assert (await refusal(checker(issuer), token(None)))[
        1
    ] == "The token is signed with a key that the issuer does not publish."


async def test_token_of_another_key_is_refused(issuer: Loopback) -> None:
    """A token that names another key than the one that signed it is refused."""
    issuer.answer = (200, published(one=PRIVATE["EdDSA"], two=PRIVATE["ES256"]))
    assert (await refusal(checker(issuer), token("one"))) == (
        "unauthorized",
        "The token is not signed with the key of this server.",
    )


async def test_unknown_key_id_fetches_the_keys_again(issuer: Loopback, clock: Clock) -> None:
    """A new key is asked for when a token names it, a while after the last question; one taken back is forgotten."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    check = checker(issuer)
    await check.identify(token("one"))
    issuer.answer = (200, published(two=PRIVATE["EdDSA"]))
    assert (await refusal(check, token("two", "EdDSA")))[0] == "unauthorized"
    clock.now += keys.COOLDOWN + 1
    assert (await check.identify(token("two", "EdDSA"))).user == "ann"
    assert (await refusal(check, token("one")))[0] == "unauthorized"
    assert len(issuer.asked) == 2


async def test_made_up_key_ids_have_a_rate(issuer: Loopback, clock: Clock) -> None:
    """With made-up key ids the issuer can be asked once in a while and not more."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    check = checker(issuer)
    for number in range(50):
        assert (await refusal(check, token(f"made-up-{number}")))[0] == "unauthorized"
    assert len(issuer.asked) == 1


async def test_keys_are_refreshed_after_some_minutes(issuer: Loopback, clock: Clock) -> None:
    """After some minutes keys are asked for again, so that one that was taken back is good no longer."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    check = checker(issuer)
    await check.identify(token("one"))
    issuer.answer = (200, published(two=PRIVATE["EdDSA"]))
    clock.now += keys.LIFESPAN + 1
    assert (await refusal(check, token("one")))[0] == "unauthorized"


@pytest.mark.parametrize("answer", [(500, {}), (404, {}), (200, []), (200, {}), (200, {"keys": [1]}), (0, {})])
async def test_former_keys_are_used_for_an_hour_of_outage(
    issuer: Loopback, clock: Clock, answer: tuple[int, Any]
) -> None:
    """While the issuer has no proper answer, its keys go on for an hour; then, and before it had one, that is said."""
    check = checker(issuer)
    issuer.answer = answer
    assert (await refusal(check, token("one")))[0] == "auth-unavailable"
    clock.now += keys.COOLDOWN + 1
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    assert (await check.identify(token("one"))).user == "ann"
    issuer.answer = answer
    clock.now += keys.MAX_AGE - 1
    assert (await check.identify(token("one"))).user == "ann"
    clock.now += 2
    assert (await refusal(check, token("one")))[0] == "auth-unavailable"


@pytest.mark.parametrize("answer", [b"[" * 1_000_000, b'{"keys":' + b"[" * 1_000_000, b"\xff", b"9" * 100_000])
async def test_unreadable_response_is_one_log_line(
    issuer: Loopback, configure: Configure, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    """An unreadable or too deep response is one line in the log, and gives no keys."""
    configure("info", "json")
    issuer.answer = (200, answer)
    assert (await refusal(checker(issuer), token("one")))[0] == "auth-unavailable"
    (line,) = capsys.readouterr().out.splitlines()
    assert "the keys of AUTH_JWKS_URL could not be read" in line


async def test_size_of_the_key_response_is_bounded(issuer: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may have so many bytes and not one more."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    size = len(json.dumps(issuer.answer[1]))
    monkeypatch.setattr(keys, "MAX_ANSWER", size)
    assert (await checker(issuer).identify(token("one"))).user == "ann"
    monkeypatch.setattr(keys, "MAX_ANSWER", size - 1)
    assert (await refusal(checker(issuer), token("one")))[0] == "auth-unavailable"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"HTTP/1.1 ", id="in its first line"),
        pytest.param(b"HTTP/1.1 200 -\r\nA: ", id="in a header"),
        pytest.param(b"HTTP/1.1 200 -\r\nContent-Length: 100000\r\n\r\n", id="in a body"),
        pytest.param(b"HTTP/1.1 200 -\r\n\r\n", id="in a body without an end"),
    ],
)
async def test_key_response_that_trickles_is_given_up(
    issuer: Loopback, clock: Clock, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    """An answer that comes byte by byte is given up: whose key is there goes in, and everybody else is told."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    check = checker(issuer)
    await check.identify(token("one"))
    clock.now += keys.LIFESPAN + 1
    monkeypatch.setattr(keys, "TIMEOUT", 0.6)  # half of it is for connecting, also on a busy machine
    issuer.trickles = start
    async with asyncio.timeout(TIMEOUT):
        assert (await check.identify(token("one"))).user == "ann"
        assert (await refusal(checker(issuer), token("one")))[0] == "auth-unavailable"
        await issuer.until_left()


async def test_wait_for_the_issuer_is_bounded(issuer: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps a question from its end, as a name server may, nobody waits longer than an answer may take."""
    goes_on = asyncio.Event()

    async def fetch(*_: object) -> bytes:
        await goes_on.wait()
        return json.dumps(published(one=PRIVATE["ES256"])).encode()

    monkeypatch.setattr(http_client, "fetch", fetch)
    monkeypatch.setattr(keys, "TIMEOUT", 0.01)
    check = checker(issuer)
    assert (await refusal(check, token("one")))[0] == "auth-unavailable"
    goes_on.set()
    await check._keys._question
    assert (await check.identify(token("one"))).user == "ann"


async def test_answer_outlives_the_client_that_asked(issuer: Loopback) -> None:
    """The answer is everybody's, also when the one leaves for whom the issuer was asked."""
    issuer.answer = (200, published(one=PRIVATE["ES256"]))
    issuer.goes_on.clear()
    check = checker(issuer)
    first = asyncio.create_task(check.identify(token("one")))
    await issuer.until_asked(1)
    first.cancel()
    issuer.goes_on.set()
    assert (await check.identify(token("one"))).user == "ann"
    assert len(issuer.asked) == 1


@pytest.mark.parametrize(
    ("algorithm", "weak"),
    [
        pytest.param("RS256", rsa.generate_private_key(65537, 1024), id="RSA with 1024 bits"),  # noqa: S505
        pytest.param("ES256", ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param("EdDSA", ed448.Ed448PrivateKey.generate(), id="Ed448"),
    ],
)
async def test_unacceptable_published_key_is_left_out(issuer: Loopback, algorithm: str, weak: Any) -> None:
    """A published key that AUTH_PUBLIC_KEY could not be is left out, and those beside it are not."""
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(weak.public_key(), as_dict=True)
    issuer.answer = (200, {"keys": [{**made, "kid": "weak"}, *published(one=PRIVATE["EdDSA"])["keys"]]})
    check = checker(issuer)
    text = "The token is signed with a key that the issuer does not publish."
    assert await refusal(check, token("weak", algorithm)) == ("unauthorized", text)
    assert (await check.identify(token("one", "EdDSA"))).user == "ann"


async def test_unusable_published_key_is_left_out(issuer: Loopback) -> None:
    """An unusable published key is left out, without those beside it."""
    good = published(one=PRIVATE["ES256"])["keys"][0]
    strange = [5, None, [], {}, {"kty": "RSA"}, *({**good, name: value} for name in good for value in (5, [5], {}))]
    issuer.answer = (200, {"keys": [*strange, {**good, "kid": ""}, {**good, "alg": ["ES256"]}, good]})
    check = checker(issuer)
    assert (await check.identify(token("one"))).user == "ann"
    assert set(check._keys._keys) == {"one"}


async def test_published_private_key_is_left_out(issuer: Loopback) -> None:
    """A key that is published with its private part is left out: anybody can sign with it."""
    made = jwt.get_algorithm_by_name("ES256").to_jwk(PRIVATE["ES256"], as_dict=True)
    issuer.answer = (200, {"keys": [{**made, "kid": "private"}, *published(one=PRIVATE["EdDSA"])["keys"]]})
    assert (await refusal(checker(issuer), token("private")))[0] == "unauthorized"


async def test_redirect_of_the_issuer_is_not_followed(issuer: Loopback) -> None:
    """A redirect of the issuer is not followed."""
    issuer.answer = (302, {})
    issuer.headers = [f"Location: {issuer.url}/elsewhere"]
    assert (await refusal(checker(issuer), token("one")))[0] == "auth-unavailable"
    assert len(issuer.asked) == 1


async def test_published_secrets_and_encryption_keys_are_left_out(issuer: Loopback) -> None:
    """Published secrets and encryption keys are left out, so nobody can sign with them."""
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "one"}
    encryption = {**published(two=PRIVATE["ES256"])["keys"][0], "use": "enc"}
    issuer.answer = (200, {"keys": [secret, encryption, *published(three=PRIVATE["EdDSA"])["keys"]]})
    check = checker(issuer)
    by_secret = signed("secret-secret-secret-secret-secret", headers={"kid": "one"})
    assert (await refusal(check, by_secret))[0] == "unauthorized"
    assert (await refusal(check, token("two")))[0] == "unauthorized"
    assert (await check.identify(token("three", "EdDSA"))).user == "ann"


async def test_public_key_as_secret(issuer: Loopback) -> None:
    """A token that is signed with a published key as if that were a secret is refused."""
    import hashlib
    import hmac

    from .test_jwt_tokens import segment

    issuer.answer = (200, published(one=PRIVATE["RS256"]))
    text = f"{segment({'alg': 'HS256', 'kid': 'one'})}.{segment({'sub': 'ann', 'exp': 4_000_000_000})}"
    forged = f"{text}.{segment(hmac.digest(pem(PRIVATE['RS256']).encode(), text.encode(), hashlib.sha256))}"
    assert (await refusal(checker(issuer), forged))[0] == "unauthorized"
