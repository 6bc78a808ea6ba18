"""GitHub: people who log in to the editor with GitHub are proven by the token that it gave the editor.

GitHub is asked once for each token (``GET /user``); the answer is remembered for minutes, under the token's hash.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from .identity import AuthError, Identity, Name
from .limits import Quota
from .settings import SettingError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 5.0
"""Seconds that GitHub has to answer."""
LIFESPAN = 300.0
"""Seconds for which an answer is remembered; whoever was refused is asked about again after `LIFESPAN_OF_REFUSAL`."""
LIFESPAN_OF_REFUSAL = 60.0
MAX_REMEMBERED = 10_000
"""Answers that are remembered; the oldest goes first."""
MAX_QUESTIONS = 100
"""Questions that are under way or wait; more are not asked."""
CONNECTIONS = 10
"""Questions that are under way."""
UNKNOWN_PER_MINUTE = 30
"""Different tokens from one address that GitHub does not know, before it is asked about no others for that minute."""
MAX_ANSWER = 65_536
"""Bytes of an answer."""


class _User(Struct):
    login: Name


class _Answer(NamedTuple):
    login: str | None
    until: float


class GitHub:
    """Asks GitHub whose a token is.

    Args:
        url: of its API.

    Raises:
        SettingError: the URL is none, or the extra `github` is not installed.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise SettingError("GITHUB_API_URL is no URL that can be asked; accepted is https://... or http://...")
        try:
            import httpx
        except ImportError:
            raise SettingError("AUTH is github, which needs the extra `github`: install this server with it") from None
        self._url = url.rstrip("/") + "/user"
        self._failures = (httpx.HTTPError, msgspec.DecodeError, TimeoutError)
        self._client: httpx.AsyncClient = httpx.AsyncClient(
            headers={"Accept": "application/vnd.github+json", "User-Agent": "opennoodl"},
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=CONNECTIONS),
        )
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._unknown = Quota(UNKNOWN_PER_MINUTE, 60)
        self._questions: dict[bytes, asyncio.Task[str | None]] = {}

    async def close(self) -> None:
        """Let go of the connections to GitHub."""
        for question in list(self._questions.values()):
            question.cancel()
        await self._client.aclose()

    async def identify(self, token: str, place: str) -> Identity:
        """Return whose a token is.

        Args:
            token: what was shown.
            place: where it comes from, as far as places are counted.

        Raises:
            AuthError: nobody's, or GitHub does not say.
        """
        key = sha256(token.encode()).digest()
        answer = self._answers.get(key)
        if answer is not None and monotonic() < answer.until:
            login = answer.login
        else:
            if not self._unknown.has(place, monotonic()):
                raise AuthError("Too many wrong tokens came from your address; wait a minute.", "auth-unavailable")
            login = await self._login(key, token)
            if login is None:
                self._unknown.allow(place, monotonic())
        if login is None:
            raise AuthError("GitHub does not know this token.")
        return Identity(login)

    async def _login(self, key: bytes, token: str) -> str | None:
        """Ask, together with everybody who shows the same token meanwhile: all of a user's tabs come back at once."""
        question = self._questions.get(key)
        if question is None:
            if len(self._questions) >= MAX_QUESTIONS:
                raise _unavailable()
            question = self._questions[key] = asyncio.create_task(self._ask(key, token))
            question.add_done_callback(lambda question: self._answered(key, question))
        try:
            # Whoever has left meanwhile does not take the answer from the others.
            return await asyncio.shield(question)
        except self._failures:
            raise _unavailable() from None

    def _answered(self, key: bytes, question: asyncio.Task[str | None]) -> None:
        del self._questions[key]
        if not question.cancelled():
            question.exception()  # nobody may be left to hear of it

    async def _ask(self, key: bytes, token: str) -> str | None:
        login = None
        async with (
            asyncio.timeout(2 * TIMEOUT),  # the other one begins anew with every byte
            self._client.stream("GET", self._url, headers={"Authorization": f"Bearer {token}"}) as response,
        ):
            if response.status_code != 401:
                response.raise_for_status()
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise TimeoutError
                login = msgspec.json.decode(body, type=_User).login
        self._remember(key, login)
        return login

    def _remember(self, key: bytes, login: str | None) -> None:
        self._answers.pop(key, None)
        self._answers[key] = _Answer(login, monotonic() + (LIFESPAN if login is not None else LIFESPAN_OF_REFUSAL))
        if len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)


def _unavailable() -> AuthError:
    return AuthError("GitHub cannot be asked who you are just now; try again later.", "auth-unavailable")
