"""Attacks on logins with GitHub: on the requests to GitHub, and on clients that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import count

from .attack import JSON, attack
from .github_api import STRANGE, token
from .raw_connection import CLOSE, Target, frame
from .tokens import MALLORY, VICTIM, answers, show

CROWD = 60
"""Clients that wait for GitHub at a time."""
UNKNOWN = 40
"""Unknown tokens at a time: more than the requests to GitHub in a minute."""
NUMBERS = count()


@attack(
    *("unauthorized", "auth-unavailable"), sync=["1008", "1013"], bound=["auth-unavailable", "1013"], setups=["github"]
)
async def unknown_github_tokens(target: Target) -> Collection[str]:
    """Tokens that GitHub does not know, until the server sends GitHub no more requests."""
    crowd = [answers(target, [f"made-up-{next(NUMBERS)}"]) for _ in range(UNKNOWN)]
    return set().union(*await asyncio.gather(*crowd))


@attack("unauthorized", "invalid-field", servers=JSON, setups=["github"])
async def github_tokens_of_other_users(target: Target) -> Collection[str]:
    """The attacker's own token with another user's id, or with another spelling of its own."""
    users = [VICTIM, "Mallory", "mallory ", "m\u0430llory", "*"]
    return set().union(*[await answers(target, [token(MALLORY)], user) for user in users])


@attack("auth-unavailable", "1000", "1008", sync=["1013", "1000"], setups=["github"], slow=True)
async def failing_github(target: Target) -> Collection[str]:
    """Many clients with tokens for which GitHub hangs, fails or answers garbage. Half of them close meanwhile."""

    async def leave(shown: str) -> str:
        path = b"/guarded?token=" + shown.encode()
        async with target.websocket(path if target.kind == "sync" else b"") as raw:
            asks = b"" if target.kind == "sync" else show(target, shown)
            await raw.send(asks + target.message * 5 + frame(b"\x03\xe8", CLOSE))
            return await raw.end()

    tokens = [f"{STRANGE[number % len(STRANGE)]}_{number}" for number in range(2 * CROWD)]
    left = await asyncio.gather(*map(leave, tokens[:CROWD]))
    waited = await asyncio.gather(*(answers(target, [shown]) for shown in tokens[CROWD:]))
    return set(left).union(*waited)
