"""GitHub: people who log in to the editor with GitHub are proven by the token that it gave the editor.

GitHub is asked once for each token (``GET /user``); the answer is remembered for minutes, under the token's hash.

Nothing is asked again here, so no library for retries is used: clients come back, and a pause is kept for all of them.
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
"""Seconds that GitHub has to answer."""
LIFESPAN = 300.0
"""Seconds for which an answer is remembered; whoever was refused is asked about again after `LIFESPAN_OF_REFUSAL`."""
LIFESPAN_OF_REFUSAL = 60.0
PAUSE = 5.0
"""Seconds until GitHub is asked again about a token to which it gave no proper answer."""
MAX_PAUSE = 60.0
"""What it may ask for instead, by `Retry-After`, and what it gets if it limits somebody and asks for nothing."""
FAILURES = 10
"""Addresses that get no proper answer, one after the other, before GitHub is asked about nobody else for as long.

GitHub answers 403 and 429 to single tokens too: to those of an app, of a user who is suspended, or of one who has asked
too often. Nobody who shows such a token, over and over or many of them, may keep others out.
"""
MAX_REMEMBERED = 10_000
"""Answers that are remembered; the oldest goes first."""
MAX_QUESTIONS = 100
"""Questions that are under way or wait; more are not asked."""
CONNECTIONS = 10
"""Questions that are under way."""
UNPROVEN_PER_MINUTE = 30
"""Questions about tokens from one address that prove nobody, or that are under way, before it has to wait."""
MAX_TOKEN = 1024
"""Characters of a token about which GitHub is asked; its own have 40 to 255, and longer ones may come."""
MAX_ANSWER = 65_536
"""Bytes of an answer."""

log = structlog.get_logger()


class _User(Struct):
    login: Name


class _Answer(NamedTuple):
    """What is known of a token until a time.

    Attributes:
        login: whose it is; None for nobody's.
        proper: whether GitHub has said so.
    """

    login: str | None
    until: float
    proper: bool = True


class _Question(NamedTuple):
    task: asyncio.Task[_Answer]
    source: str


class GitHub:
    """Asks GitHub whose a token is.

    Args:
        url: of its API.

    Raises:
        SettingError: the URL is none.
    """

    def __init__(self, url: str) -> None:
        if not is_http_url(url):
            raise SettingError("GITHUB_API_URL is not a usable URL; accepted is https://... or http://...")
        # httpx takes memory that a server without GitHub does without.
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
        self._failing: dict[str, float] = {}  # addresses, and the seconds until they may have GitHub asked again
        self._pause_ends = float("-inf")

    async def close(self) -> None:
        """Let go of the connections to GitHub."""
        for question in list(self._questions.values()):
            question.task.cancel()
        await self._client.aclose()

    async def identify(self, token: str, source: str) -> Identity:
        """Return whose a token is.

        Args:
            token: what was shown.
            source: the address that sent it, as limits count it.

        Raises:
            AuthError: nobody's, or GitHub does not say.
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
        """Return what is known of a token, or ask.

        All of a user's tabs come back at once: those who show the same token wait for one answer. Those of one address
        that are more than may be unproven wait for each other, since most of them may prove to be somebody.
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
            # Whoever has left meanwhile does not take the answer from the others.
            return await asyncio.shield(question.task)

    async def _ask(self, key: bytes, token: str, source: str) -> _Answer:
        pause = PAUSE
        try:
            async with asyncio.timeout(2 * TIMEOUT), self._slots:  # that of a read begins anew with every byte
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
        """Return whose the token is, or None if GitHub does not know it."""
        if response.status_code == 401:
            return None
        response.raise_for_status()
        return msgspec.json.decode(await self._read_body(response, MAX_ANSWER), type=_User).login

    def _failed(self, source: str, pause: float, error: Exception) -> None:
        """Take note that an address got no proper answer; if many did and none else, nobody's question is asked."""
        if monotonic() < self._pause_ends:
            return
        self._failing[source] = pause
        if len(self._failing) >= FAILURES:
            seconds = min(self._failing.values())  # what GitHub asks of one may be that one's own
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
    """Return the seconds until GitHub is asked again if this is no proper answer."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(max(float(asked), PAUSE), MAX_PAUSE)
    return MAX_PAUSE if response.status_code in (403, 429) else PAUSE


def _unavailable() -> AuthError:
    return AuthError("GitHub does not answer, so the token cannot be checked now; try again later.", "auth-unavailable")
