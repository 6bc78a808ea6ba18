"""GitHub: an access token of GitHub proves the user whose login it is.

The server sends one request for each token (``GET /user``) and caches the answer for minutes, by the token's hash.

A failed request is not repeated here, so no library for retries is used. The clients try again, and a pause applies to
all of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog
from msgspec import Struct

from ..limits import Quota
from ..settings import SettingError, is_http_url
from .identity import AuthError, Identity, Name

if TYPE_CHECKING:
    import httpx

TIMEOUT = 5.0
"""Seconds in which GitHub must answer."""
LIFESPAN = 300.0
"""Seconds for which the login of a token is cached."""
LIFESPAN_OF_REFUSAL = 60.0
"""Seconds for which it is cached that GitHub does not know a token."""
PAUSE = 5.0
"""Seconds until the next request about a token for which GitHub gave no proper answer."""
MAX_PAUSE = 60.0
"""The longest pause in seconds: for a larger `Retry-After`, and for a 403 or 429 without one."""
FAILURES = 10
"""Addresses without a proper answer, in a row, after which all requests to GitHub pause.

GitHub also answers 403 and 429 to single tokens: to those of an app, of a suspended user, or of a user with too many
requests. A client that sends such tokens must not keep other users out.
"""
MAX_REMEMBERED = 10_000
"""Cached answers; the oldest one is dropped first."""
MAX_QUESTIONS = 100
"""Requests that are under way or wait; a further token is not checked."""
CONNECTIONS = 10
"""Requests that are under way at the same time."""
UNPROVEN_PER_MINUTE = 30
"""Requests a minute about tokens from one address that are invalid, or not answered yet; then it has to wait."""
MAX_TOKEN = 1024
"""Characters of a token that is sent to GitHub. GitHub's tokens have 40 to 255 today."""
MAX_ANSWER = 65_536
"""Bytes of GitHub's answer."""

log = structlog.get_logger()


class _User(Struct):
    login: Name


class _Answer(NamedTuple):
    """The cached answer about a token.

    Attributes:
        login: the user; None if the token is not valid, or if there is no proper answer.
        until: monotonic time in seconds at which the answer becomes invalid.
        proper: whether GitHub gave a proper answer.
    """

    login: str | None
    until: float
    proper: bool = True


class _Question(NamedTuple):
    task: asyncio.Task[_Answer]
    source: str


class GitHub:
    """Asks GitHub for the user of a token.

    Args:
        url: URL of GitHub's API.

    Raises:
        SettingError: the URL is not valid.
    """

    def __init__(self, url: str) -> None:
        if not is_http_url(url):
            raise SettingError("GITHUB_API_URL is not a usable URL; accepted is https://... or http://...")
        # Loaded only with AUTH=github, since httpx takes memory.
        import httpx

        from .http_client import new_client, read

        self._read_body = read
        self._url = url.rstrip("/") + "/user"
        self._failures = (httpx.HTTPError, msgspec.DecodeError, RecursionError, TimeoutError, ValueError)
        headers = {"Accept": "application/vnd.github+json", "User-Agent": "opennoodl"}
        self._client: httpx.AsyncClient = new_client(TIMEOUT, keep=CONNECTIONS, headers=headers)
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._unproven = Quota(UNPROVEN_PER_MINUTE, 60)
        self._questions: dict[bytes, _Question] = {}
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._failing: dict[str, float] = {}  # by address without a proper answer, the seconds until its next request
        self._pause_ends = float("-inf")

    async def close(self) -> None:
        """Cancel all requests, and close the connections to GitHub."""
        for question in list(self._questions.values()):
            question.task.cancel()
        await self._client.aclose()

    async def identify(self, token: str, source: str) -> Identity:
        """Return the identity that a token proves.

        Args:
            token: the access token.
            source: the key under which limits count the client's address; see `rate_limit_key`.

        Raises:
            AuthError: GitHub does not know the token, or does not answer.
        """
        if len(token) > MAX_TOKEN:
            raise AuthError(f"The token has {len(token)} characters, which is too long for a GitHub token.")
        answer = await self._find(sha256(token.encode()).digest(), token, source)
        if not answer.proper:
            raise _unavailable()
        if answer.login is None:
            raise AuthError("GitHub does not know this token.")
        return Identity(answer.login)

    async def _find(self, key: bytes, token: str, source: str) -> _Answer:
        """Return the cached answer about a token, or ask GitHub.

        All tabs of a user reconnect at the same time, so connections with the same token wait for one answer. An
        address that has used up its requests waits for its own requests that are under way. Each valid token among
        them gives one request back.
        """
        while True:
            now = monotonic()
            answer = self._answers.get(key)
            if answer is not None and now < answer.until:
                return answer
            question = self._questions.get(key)
            if question is None:
                if now < self._pause_ends or len(self._questions) >= MAX_QUESTIONS:
                    raise _unavailable()
                if not self._unproven.allow(source, now):
                    before = [question.task for question in self._questions.values() if question.source == source]
                    if not before:
                        text = "Too many invalid tokens came from your address; wait a minute."
                        raise AuthError(text, "auth-unavailable")
                    await asyncio.wait(before, return_when=asyncio.FIRST_COMPLETED)
                    continue
                question = _Question(asyncio.create_task(self._ask(key, token, source)), source)
                self._questions[key] = question
                question.task.add_done_callback(lambda _: self._questions.pop(key))
            # Shielded: a client that disconnects meanwhile must not cancel the request of the others.
            return await asyncio.shield(question.task)

    async def _ask(self, key: bytes, token: str, source: str) -> _Answer:
        pause = PAUSE
        try:
            async with asyncio.timeout(2 * TIMEOUT), self._slots:  # httpx's timeout of a read restarts with every byte
                if monotonic() < self._pause_ends:
                    self._unproven.give_back(source)
                    return _Answer(None, 0, proper=False)
                async with self._client.stream(
                    "GET", self._url, headers={"Authorization": f"Bearer {token}"}
                ) as response:
                    pause = _pause(response)
                    login = await self._read(response)
        except self._failures as error:
            self._failed(source, pause, error)
            return self._remember(key, _Answer(None, monotonic() + pause, proper=False))
        self._failing.clear()
        self._pause_ends = float("-inf")
        if login is None:
            return self._remember(key, _Answer(None, monotonic() + LIFESPAN_OF_REFUSAL))
        self._unproven.give_back(source)
        return self._remember(key, _Answer(login, monotonic() + LIFESPAN))

    async def _read(self, response: httpx.Response) -> str | None:
        """Return the login in GitHub's answer; None if GitHub does not know the token."""
        if response.status_code == 401:
            return None
        response.raise_for_status()
        return msgspec.json.decode(await self._read_body(response, MAX_ANSWER), type=_User).login

    def _failed(self, source: str, pause: float, error: Exception) -> None:
        """Note that an address got no proper answer. After `FAILURES` of them in a row, pause all requests."""
        if monotonic() < self._pause_ends:
            return
        self._failing[source] = pause
        if len(self._failing) >= FAILURES:
            seconds = min(self._failing.values())  # a long Retry-After may concern only one of them
            self._failing.clear()
            self._pause_ends = monotonic() + seconds
            log.warning("GitHub does not answer; requests to it are paused", seconds=seconds, error=repr(error))

    def _remember(self, key: bytes, answer: _Answer) -> _Answer:
        self._answers.pop(key, None)
        self._answers[key] = answer
        if len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)
        return answer


def _pause(response: httpx.Response) -> float:
    """Return the seconds until the next request, if this answer is not a proper one."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(max(float(asked), PAUSE), MAX_PAUSE)
    return MAX_PAUSE if response.status_code in (403, 429) else PAUSE


def _unavailable() -> AuthError:
    return AuthError("GitHub does not answer, so the token cannot be checked now; try again later.", "auth-unavailable")
