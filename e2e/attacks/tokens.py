"""Attacks on authentication: invalid tokens, and valid tokens of other users or for other rooms."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Iterable
from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .attack import attack
from .raw_connection import CUT, Target, request, text
from .token_issuer import KEY, PUBLIC, claims, signed

OTHER = Ed25519PrivateKey.generate()
MALLORY, VICTIM = "mallory", "victim"
SHUT: dict[str, Any] = {"sync": ["1008"], "signaling": ["unauthorized"], "notification": ["unauthorized"]}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], secret: bytes, **more: Any) -> str:
    """Return a token with any header, signed with HMAC; without a signature if there is no secret."""
    head = _base64(json.dumps(header).encode()) + "." + _base64(json.dumps(claims(VICTIM, **more)).encode())
    return head + "." + (_base64(hmac.digest(secret, head.encode(), hashlib.sha256)) if secret else "")


def show(target: Target, token: str, user: str = VICTIM) -> bytes:
    """Return the message with a token."""
    if target.kind == "signaling":
        return text({"type": "join", "room": "guarded", "peerId": "a", "userId": user, "token": token})
    return text({"type": "authenticate", "userId": user, "token": token})


async def answers(target: Target, tokens: Iterable[str], user: str = VICTIM) -> Collection[str]:
    """Send each token on its own connection; return the answers."""
    given = set()
    for token in tokens:
        if target.kind == "sync":
            async with target.websocket(b"/guarded?token=" + token.encode()) as raw:
                given.add(await raw.end())
        else:
            async with target.websocket() as raw:
                await raw.send(show(target, token, user))
                given.add(await raw.answer())
    return given


@attack(setups=["jwt"], **SHUT)
async def forged_tokens(target: Target) -> Collection[str]:
    """No token, a token without JSON, another signer, changed claims, a changed signature."""
    head, body, signature = signed(VICTIM).split(".")
    other = _base64(json.dumps(claims("admin")).encode())
    deep = _base64(b'{"alg":"EdDSA","a":' + b"[" * 4000 + b"]" * 4000 + b"}")
    return await answers(
        target,
        [
            *("", ".", "..", "a.b.c", "null", head + "." + body, f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}"),
            *(f"{head}.{other}.{signature}", f"{deep[:7000]}.{body}.{signature}", "a" * 7000),
            jwt.encode(claims(VICTIM), OTHER, algorithm="EdDSA"),
        ],
    )


@attack(setups=["jwt"], **SHUT)
async def expired_tokens(target: Target) -> Collection[str]:
    """Tokens that have expired, are not valid yet, never expire, or expire beyond the last representable year."""
    now = time()
    times: list[dict[str, Any]] = [
        *({"exp": now - 60}, {"exp": 0}, {"exp": -1}, {"exp": None}, {"exp": "never"}, {"exp": 1e300}),
        *({"nbf": now + 3600}, {"exp": True}, {"exp": [now + 60]}, {"exp": str(int(now + 60))}),
    ]
    return await answers(target, (signed(VICTIM, **each) for each in times))


@attack(setups=["jwt"], **SHUT)
async def swapped_algorithms(target: Target) -> Collection[str]:
    """Tokens without a signature, signed with the public key as a secret, or with a key of their own in the header."""
    public = PUBLIC.encode()
    curve, large = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    jwk = jwt.get_algorithm_by_name("EdDSA").to_jwk(OTHER.public_key(), as_dict=True)
    headers: list[dict[str, Any]] = [{"jwk": jwk}, {"jku": "http://127.0.0.1:9/keys"}, {"kid": "../../dev/null"}]
    return await answers(
        target,
        [
            *(by_hand({"alg": name, "typ": "JWT"}, b"") for name in ("none", "None", "NONE", "", "EdDSA")),
            *(by_hand({"alg": "HS256", "typ": "JWT"}, secret) for secret in (public, public.strip(), b"secret")),
            jwt.encode(claims(VICTIM), curve, algorithm="ES256"),
            jwt.encode(claims(VICTIM), large, algorithm="RS256"),
            *(jwt.encode(claims(VICTIM), OTHER, algorithm="EdDSA", headers=header) for header in headers),
            jwt.encode(claims(VICTIM), KEY, algorithm="EdDSA", headers={"crit": ["unknown"], "unknown": 1}),
        ],
    )


@attack(setups=["jwt"], **SHUT)
async def swapped_tokens(target: Target) -> Collection[str]:
    """Valid tokens of another issuer or for another audience; tokens without a user, or with an invalid one."""
    others: list[dict[str, Any]] = [
        *({"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"}, {"aud": None}, {"aud": []}),
        *({"sub": None}, {"sub": ""}, {"sub": "a" * 257}, {"sub": 5}, {"rooms": "*"}, {"access": "admin"}),
    ]
    return await answers(target, (signed(**{"sub": VICTIM, **each}) for each in others))


@attack("unauthorized", "invalid-field", servers=["signaling", "notification"], setups=["jwt"])
async def tokens_of_other_users(target: Target) -> Collection[str]:
    """A valid token with another user's id, or with another spelling of the token's own user."""
    users = [VICTIM, "Mallory", "mallory ", "mallory\x00", "m\u0430llory", "*"]
    return set().union(*[await answers(target, [signed(MALLORY)], user) for user in users])


@attack(setups=["jwt"], sync=["1008"], signaling=["1008"], notification=["1008"])
async def guessed_tokens(target: Target) -> Collection[str]:
    """Guessed tokens, one after the other."""
    if target.kind == "sync":
        return await answers(target, (f"guess-{number}" for number in range(50)))
    async with target.websocket() as raw:
        raw.write(b"".join(show(target, f"guess-{number}") for number in range(50)))
        return {await raw.end()}


@attack("1008", "404", "429", "forbidden", "unauthorized", "401", "403", servers=["signaling", "sync"], setups=["jwt"])
async def tokens_for_other_rooms(target: Target) -> Collection[str]:
    """A token for one room, used for another room with every spelling and every message or path."""
    token = signed(MALLORY, rooms=["mine", "team-*"])
    rooms = ["guarded", "Mine", "mine ", "mine/", "mine%00", "%6Dine", "mine/../guarded", "*", "tea-m", "mine\n"]
    answers = set()
    if target.kind == "sync":
        for room in rooms:
            path = b"/" + room.replace(" ", "%20").replace("\n", "%0A").encode() + b"?token=" + token.encode()
            async with target.tcp() as raw:
                status = await raw.upgrade(path)
                answers.add(await raw.end() if status == "101" else status)
        return answers
    for room in rooms:
        async with target.websocket() as raw:
            await raw.send(text({"type": "join", "room": room, "peerId": "a", "userId": MALLORY, "token": token}))
            answers.add(await raw.answer())
        async with target.websocket(b"/?token=" + token.encode()) as raw:
            await raw.send(text({"type": "subscribe", "topics": ["mine", room]}))
            answers.add(await raw.answer())
            await raw.send(text({"type": "publish", "topic": room}))
            answers.add(await raw.answer())
        path = b"/session/" + room.replace(" ", "%20").replace("\n", "%0A").encode() + b"/info"
        for headers in ([f"Authorization: Bearer {token}"], []):
            async with target.tcp() as raw:
                await raw.send(request(path, "Host: localhost", *headers))
                answers.add(await raw.status())
    return answers


@attack("431", CUT, "1009", setups=["jwt"])
async def large_tokens(target: Target) -> Collection[str]:
    """Tokens of a megabyte, in the query, in a header, and in a message."""
    token = "a" * 1_000_000
    async with target.tcp() as raw:
        first = await raw.upgrade(target.path, f"Authorization: Bearer {token}")
    if target.kind == "sync":
        return {first}
    async with target.websocket() as raw:
        await raw.send(show(target, token))
        return {first, await raw.end()}
