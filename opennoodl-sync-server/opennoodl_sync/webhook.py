"""The webhook: tells another server which documents changed. Knows no room and no socket of ours.

A room has one entry from its change until that is posted or given up. The entry waits on a timer that is
never moved: when it goes off, it is looked whether the document is at rest. So a change costs next to nothing.
"""

import asyncio
import base64
import hmac
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

import httpx
import msgspec
import structlog

from . import __version__
from .edge.errors import StartError
from .edge.metrics import Counts

OUTCOMES = ("delivered", "retried", "dropped")
"""Labels of the outcomes of attempts; one that is `retried` has failed and is made again."""
MIN_SECRET = 16
"""Characters that a secret has at least."""
MAX_DEBOUNCES = 10
"""Debounces after which a document that never rests is posted all the same."""
MAX_POSTS = 4
"""Posts at once."""
RETRY_DELAYS = (1.0, 4.0, 16.0, 64.0)
"""Seconds before each further attempt, give or take a quarter."""
ATTEMPT_TIMEOUT = 10.0
"""Seconds that one attempt may take."""
CLOSE_TIMEOUT = 3.0
"""Seconds that the last posts may take when the server stops."""
MAX_ANSWER = 65_536
"""Bytes of an answer's body that are read; after a longer one the connection is not used again."""
RETRIED = frozenset({408, 425, 429})
"""Statuses below 500 that may be another one later."""
CLOCK_STEP = 0.001
"""Seconds between two times of uvloop's clock."""

StateVector = Callable[[], bytes | None]
"""Returns a document's state vector, or None if there is nothing to tell. Must not raise."""

log = structlog.get_logger()


class Delivery(NamedTuple):
    """One post: each attempt has the same id and the same body."""

    id: str
    body: bytes


class Change:
    """A room of which something is to be posted.

    Attributes:
        room: its name.
        state_vector: of the newest change that is in no delivery yet, if there is one.
        since: when the first such change came, by the loop's clock.
        last: when the newest came.
        waits_since: when the first change came that was neither posted nor given up, by the loop's clock.
        delivery: what is being posted, or waits to be tried again.
        attempts: how often it failed; what replaces a delivery goes on counting.
        timer: what the entry waits for; None while it is being posted.
    """

    __slots__ = ("attempts", "delivery", "last", "room", "since", "state_vector", "timer", "waits_since")

    def __init__(self, room: str) -> None:
        self.room = room
        self.state_vector: StateVector | None = None
        self.since = self.last = self.waits_since = 0.0
        self.delivery: Delivery | None = None
        self.attempts = 0
        self.timer: asyncio.TimerHandle | None = None


class Webhook:
    """Posts changes of documents to a URL, signed.

    Args:
        url: where to.
        secret: what signs.
        debounce: seconds that a document must be at rest before its change is posted.
        delays: seconds before each further attempt; after the last one the post is given up.
        attempt_timeout: seconds that one attempt may take.
        close_timeout: seconds that the last posts may take in `close`.

    Attributes:
        posts: attempts by outcome.

    Raises:
        StartError: the URL or the secret is not usable.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        debounce: float,
        *,
        delays: Sequence[float] = RETRY_DELAYS,
        attempt_timeout: float = ATTEMPT_TIMEOUT,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        self.posts = Counts(OUTCOMES)
        self._url = _checked(url)
        self._host = self._url.host
        if len(secret) < MIN_SECRET:
            raise StartError(
                f"WEBHOOK_SECRET is {'too short' if secret else 'not set'}, and WEBHOOK_URL is; "
                f"accepted are {MIN_SECRET} characters or more"
            )
        self._secret = secret.encode()
        self._debounce = debounce
        self._delays = delays
        self._attempt_timeout = attempt_timeout
        self._close_timeout = close_timeout
        self._changes: dict[str, Change] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_POSTS)
        self._closing = False
        # A proxy or a file that the environment names would be a setting that no table shows. Certificates are
        # checked against the system's, so that an organisation's own authority can be among them.
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, verify=ssl.create_default_context())  # noqa: S113

    @property
    def queued(self) -> int:
        """How many documents have a change that is not posted yet."""
        return len(self._changes)

    def oldest(self) -> float:
        """Return for how many seconds a change has waited at most."""
        now = asyncio.get_running_loop().time()
        return max((now - change.waits_since for change in self._changes.values()), default=0.0)

    def changed(self, room: str, state_vector: StateVector) -> None:
        """Note that a document changed; it is posted when it rests.

        Args:
            room: the document's name.
            state_vector: called right before a post; replaces the one of an earlier change.
        """
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        change = self._changes.get(room)
        if change is None:
            change = self._changes[room] = Change(room)
            change.timer = loop.call_later(self._debounce, self._post_or_wait, change)
            change.waits_since = now
        if change.state_vector is None:
            change.since = now
        change.last = now
        change.state_vector = state_vector

    async def close(self) -> None:
        """Post once what is left, for a few seconds at most, and take no more."""
        self._closing = True
        for change in list(self._changes.values()):
            if change.timer is not None:
                change.timer.cancel()
                self._start(change)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._close_timeout):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if self._changes:
            self.posts["dropped"] += len(self._changes)
            log.warning("webhook posts were given up because the server stops", posts=len(self._changes))
            self._changes.clear()
        await self._client.aclose()

    def _post_or_wait(self, change: Change) -> None:
        """Post a change if its time has come, or wait for the rest of it."""
        loop = asyncio.get_running_loop()
        due = min(change.last + self._debounce, change.since + MAX_DEBOUNCES * self._debounce)
        if due <= loop.time() + CLOCK_STEP:
            self._start(change)
        else:
            change.timer = loop.call_at(due, self._post_or_wait, change)

    def _start(self, change: Change) -> None:
        change.timer = None
        task = asyncio.create_task(self._post(change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, change: Change) -> None:
        """Try once to post, and decide how the room goes on."""
        async with self._slots:
            if change.state_vector is not None:
                state_vector, change.state_vector = change.state_vector(), None
                if state_vector is not None:
                    # Another body under the same id would be taken for a repetition, and be ignored.
                    change.delivery = _delivery(change.room, state_vector)
            if change.delivery is not None:
                self._count_attempt(change, await self._send(change.delivery))
        if change.delivery is not None:
            delay = self._delays[change.attempts - 1] * random.uniform(0.75, 1.25)  # noqa: S311
            change.timer = asyncio.get_running_loop().call_later(delay, self._start, change)
        elif change.state_vector is None:
            del self._changes[change.room]
        elif self._closing:
            self._start(change)
        else:
            self._post_or_wait(change)

    def _count_attempt(self, change: Change, answer: int | str) -> None:
        """Count an attempt; leave the delivery in place only if it is to be tried again."""
        if isinstance(answer, int) and 200 <= answer < 300:
            self.posts["delivered"] += 1
        elif _temporary(answer) and change.attempts < len(self._delays) and not self._closing:
            self.posts["retried"] += 1
            change.attempts += 1
            return
        else:
            self.posts["dropped"] += 1
            log.warning("a webhook post was given up", host=self._host, answer=answer, attempts=change.attempts + 1)
        change.delivery = None
        change.attempts = 0
        change.waits_since = change.since

    async def _send(self, delivery: Delivery) -> int | str:
        """Post a delivery; return the answer's status, or the name of the error that came instead."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"opennoodl-sync-server/{__version__}",
            "X-OpenNoodl-Delivery": delivery.id,
            "X-OpenNoodl-Signature": "sha256=" + hmac.digest(self._secret, delivery.body, "sha256").hex(),
        }
        answer: int | str = ""
        try:
            async with (
                asyncio.timeout(self._attempt_timeout),
                self._client.stream("POST", self._url, content=delivery.body, headers=headers) as response,
            ):
                answer = response.status_code
                await _drain(response)
        except Exception as error:  # whatever it is, it must not end the posts of this room
            # Once there is a status, it counts: what is read after it only keeps the connection usable.
            answer = answer or type(error).__name__
        self._client.cookies.clear()  # a receiver could have us keep any number of them
        return answer


def _checked(url: str) -> httpx.URL:
    # The refusal does not repeat the URL: it may hold a password or a token.
    refusal = StartError("WEBHOOK_URL is not usable; accepted is an http:// or https:// URL")
    try:
        checked = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise refusal from None
    port = 80 if checked.port is None else checked.port
    if checked.scheme not in ("http", "https") or not checked.host or not 0 < port <= 65535:
        raise refusal
    return checked


def _delivery(room: str, state_vector: bytes) -> Delivery:
    body = {
        "event": "document-changed",
        "room": room,
        "stateVector": base64.b64encode(state_vector).decode(),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return Delivery(str(uuid4()), msgspec.json.encode(body))


def _temporary(answer: int | str) -> bool:
    """Return whether an answer that is no success may be another one later."""
    return isinstance(answer, str) or answer >= 500 or answer in RETRIED


async def _drain(response: httpx.Response) -> None:
    """Read a short answer to its end, so that its connection can be used again; leave the rest of a long one."""
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER:
            return
