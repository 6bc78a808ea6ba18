"""GitHub is asked once whose a token is; it may be down or slow without anybody piling up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from ..clock import Clock
from ..harness import TIMEOUT, github, identity, settings
from ..issuer import Loopback

ANN = (200, {"login": "ann", "id": 1})
TOKEN = "gho_16C7e42F292c6912E7710c838347Ae178B4a"
HERE = "192.0.2.1"
Refusal = Callable[..., Awaitable[str]]


@pytest.fixture
async def api() -> AsyncIterator[Loopback]:
    """Run what stands for GitHub's API."""
    api = Loopback()
    await api.start()
    api.answer = ANN
    yield api
    await api.stop()


@pytest.fixture
async def hub(api: Loopback, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Ask it, and wait as long for an answer as other tests do."""
    monkeypatch.setattr(github, "TIMEOUT", TIMEOUT)
    hub = github.GitHub(api.url)
    yield hub
    await hub.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the test say what time it is."""
    clock = Clock()
    monkeypatch.setattr(github, "monotonic", clock)
    return clock


@pytest.fixture
def refusal(hub: Any) -> Refusal:
    """Return the code of what the one who shows a token is told."""

    async def refuse(token: str, place: str = HERE) -> str:
        with pytest.raises(identity.AuthError) as info:
            await hub.identify(token, place)
        assert token not in str(info.value)
        return str(info.value.code)

    return refuse


async def test_login_of_a_token_is_asked_for_once(api: Loopback, hub: Any) -> None:
    """The login is the user; GitHub is asked with the token, once."""
    for _ in range(3):
        assert await hub.identify(TOKEN, HERE) == identity.Identity("ann")
    assert len(api.asked) == 1
    assert api.asked[0].startswith("GET /user HTTP/1.1\r\n")
    assert f"authorization: bearer {TOKEN.lower()}\r\n" in api.asked[0].lower()


async def test_unknown_token_is_refused_and_remembered(api: Loopback, hub: Any, refusal: Refusal) -> None:
    """A token that GitHub does not know is refused, again without asking."""
    api.answer = (401, {"message": "Bad credentials"})
    assert [await refusal(TOKEN), await refusal(TOKEN)] == ["unauthorized"] * 2
    assert len(api.asked) == 1


async def test_long_token_is_refused_without_a_request(api: Loopback, hub: Any, refusal: Refusal) -> None:
    """A token that is too long to be GitHub's is refused without asking; one that is not is asked about."""
    assert await refusal("g" * (github.MAX_TOKEN + 1)) == "unauthorized"
    assert api.asked == []
    assert await hub.identify("g" * github.MAX_TOKEN, HERE) == identity.Identity("ann")


@pytest.mark.parametrize(
    "answer",
    [
        *((status, {}) for status in (500, 403, 429, 404, 302, 200, 0)),
        *((200, content) for content in ([], {"login": ""}, {"login": 1}, "x" * 70_000, b"[" * 60_000)),
    ],
)
async def test_failed_request_neither_accepts_nor_refuses_for_good(
    api: Loopback, hub: Any, refusal: Refusal, clock: Clock, answer: tuple[int, Any]
) -> None:
    """Without a proper answer nobody is let in or refused for good: it is asked again, after a while."""
    api.answer = answer
    assert [await refusal(TOKEN), await refusal(TOKEN)] == ["auth-unavailable"] * 2
    assert len(api.asked) == 1
    api.answer = ANN
    clock.now += github.MAX_PAUSE if answer[0] in (403, 429) else github.PAUSE
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


@pytest.mark.parametrize(
    "waits",
    [
        ("20", 20),
        ("0", github.PAUSE),
        ("9" * 5000, github.MAX_PAUSE),
        ("Fri, 31 Dec 1999 23:59:59 GMT", github.MAX_PAUSE),
    ],
)
async def test_retry_after_header_is_obeyed_within_bounds(
    api: Loopback, hub: Any, refusal: Refusal, clock: Clock, waits: tuple[str, float]
) -> None:
    """How long that is, GitHub may say, within bounds."""
    asks, pause = waits
    api.answer = (429, {})
    api.headers = [f"Retry-After: {asks}"]
    assert await refusal(TOKEN) == "auth-unavailable"
    api.answer = ANN
    clock.now += pause - 1
    assert await refusal(TOKEN) == "auth-unavailable"
    clock.now += 1
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


async def test_failures_of_many_addresses_pause_all_requests(
    api: Loopback, hub: Any, refusal: Refusal, clock: Clock
) -> None:
    """After failures for many addresses GitHub is not asked for a while; known users are still let in."""
    assert (await hub.identify(TOKEN, HERE)).user == "ann"
    api.answer = (429, {})
    api.headers = ["Retry-After: 20"]
    for number in range(github.FAILURES + 5):
        assert await refusal(f"gho_{number}", f"192.0.2.{number}") == "auth-unavailable"
    assert len(api.asked) == 1 + github.FAILURES
    assert (await hub.identify(TOKEN, HERE)).user == "ann"
    api.answer = ANN
    clock.now += 19
    assert await refusal("gho_other") == "auth-unavailable"
    clock.now += 1
    assert (await hub.identify("gho_other", HERE)).user == "ann"


async def test_pause_ends_requests_that_wait(api: Loopback, hub: Any, clock: Clock) -> None:
    """Questions that wait for their turn when that begins are not asked."""
    api.answer = (503, {})
    api.goes_on.clear()
    asking = [asyncio.create_task(hub.identify(f"gho_{number}", f"192.0.2.{number}")) for number in range(50)]
    await api.until_asked(github.CONNECTIONS)
    api.goes_on.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert {getattr(answer, "code", answer) for answer in answers} == {"auth-unavailable"}
    assert len(api.asked) < github.FAILURES + github.CONNECTIONS
    api.answer = ANN
    clock.now += github.PAUSE
    assert (await hub.identify("gho_49", HERE)).user == "ann"


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_odd_tokens_keep_out_only_their_own_address(
    api: Loopback, hub: Any, refusal: Refusal, clock: Clock, status: int
) -> None:
    """Tokens that GitHub answers with an error keep out only their own address, for a minute."""
    api.answer = (status, {})
    for number in range(github.UNPROVEN_PER_MINUTE * 2):
        assert await refusal(f"odd-{number}") == "auth-unavailable"
    assert len(api.asked) == github.UNPROVEN_PER_MINUTE
    api.answer = ANN
    assert (await hub.identify("gho_other", "192.0.2.2")).user == "ann"
    clock.now += 60
    assert (await hub.identify("gho_another", HERE)).user == "ann"


@pytest.mark.parametrize("proper", [ANN, (401, {})])
async def test_odd_tokens_of_several(
    api: Loopback, hub: Any, refusal: Refusal, clock: Clock, proper: tuple[int, Any]
) -> None:
    """As long as GitHub answers somebody, those from several addresses keep nobody out either."""
    for number in range(github.FAILURES * 3):
        api.answer = (403, {})
        assert await refusal(f"odd-{number}", f"192.0.2.{number}") == "auth-unavailable"
        if number % (github.FAILURES - 1) == 0:
            api.answer = proper
            with suppress(identity.AuthError):
                await hub.identify(f"gho_{number}", HERE)
    api.answer = ANN
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


async def test_refused_connection_to_github_is_reported_at_once(api: Loopback, hub: Any, refusal: Refusal) -> None:
    """Where nothing listens, that is said at once."""
    await api.stop()
    assert await refusal(TOKEN) == "auth-unavailable"


async def test_slow_answer_times_out(
    api: Loopback, hub: Any, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that takes too long is not waited for."""
    monkeypatch.setattr(github, "TIMEOUT", 0.4)  # half of it is for connecting, also on a busy machine
    api.goes_on.clear()
    assert await refusal(TOKEN) == "auth-unavailable"


async def test_number_of_waiting_requests_is_bounded(api: Loopback, hub: Any, refusal: Refusal) -> None:
    """While GitHub is slow, so many questions wait and not one more."""
    api.goes_on.clear()
    waiting = [
        asyncio.create_task(hub.identify(f"{TOKEN}{number}", f"192.0.2.{number}"))
        for number in range(github.MAX_QUESTIONS)
    ]
    await api.until_asked(github.CONNECTIONS)
    assert await refusal(TOKEN) == "auth-unavailable"
    assert len(api.asked) == github.CONNECTIONS
    api.goes_on.set()
    assert {found.user for found in await asyncio.gather(*waiting)} == {"ann"}
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


async def test_same_token_is_asked_for_once_at_a_time(api: Loopback, hub: Any) -> None:
    """Clients with the same token wait for one answer, also when the first of them disconnects."""
    api.goes_on.clear()
    first, *others = [asyncio.create_task(hub.identify(TOKEN, HERE)) for _ in range(5)]
    await api.until_asked(1)
    first.cancel()
    api.goes_on.set()
    assert {found.user for found in await asyncio.gather(*others)} == {"ann"}
    assert len(api.asked) == 1


async def test_answer_that_nobody_waits_for_is_dropped(api: Loopback, hub: Any) -> None:
    """An answer that nobody waits for any more disturbs nobody, even if it is none."""
    api.answer = (500, {})
    api.goes_on.clear()
    asking = asyncio.create_task(hub.identify(TOKEN, HERE))
    await api.until_asked(1)
    (question,) = hub._questions.values()
    asking.cancel()
    api.goes_on.set()
    assert not (await question.task).proper
    assert not hub._questions


async def test_cached_answers_expire(api: Loopback, hub: Any, refusal: Refusal, clock: Clock) -> None:
    """Minutes later GitHub is asked again, so that a token taken back is good no longer; a refusal ends earlier."""
    await hub.identify(TOKEN, HERE)
    clock.now += github.LIFESPAN + 1
    api.answer = (401, {})
    assert await refusal(TOKEN) == "unauthorized"
    api.answer = ANN
    clock.now += github.LIFESPAN_OF_REFUSAL + 1
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


async def test_made_up_tokens_have_a_rate_per_address(api: Loopback, hub: Any, refusal: Refusal, clock: Clock) -> None:
    """With made-up tokens one address can have GitHub asked so often in a minute; others are not kept waiting.

    A client that comes again and again with a token that has ended, as y-websocket does, locks nobody out.
    """
    api.answer = (401, {})
    for _ in range(github.UNPROVEN_PER_MINUTE * 2):
        assert await refusal(TOKEN) == "unauthorized"
    for number in range(github.UNPROVEN_PER_MINUTE - 1):
        assert await refusal(f"{TOKEN}{number}") == "unauthorized"
    assert await refusal(f"{TOKEN}-one-more") == "auth-unavailable"
    assert len(api.asked) == github.UNPROVEN_PER_MINUTE
    api.answer = ANN
    assert (await hub.identify("gho_other", "192.0.2.2")).user == "ann"
    clock.now += 60
    assert (await hub.identify("gho_another", HERE)).user == "ann"


async def test_made_up_at_once(api: Loopback, hub: Any, clock: Clock) -> None:
    """Nor can it with many of them at once."""
    api.answer = (401, {})
    api.goes_on.clear()
    asking = [asyncio.create_task(hub.identify(f"{TOKEN}{number}", HERE)) for number in range(90)]
    await api.until_asked(github.CONNECTIONS)
    api.goes_on.set()
    answers = Counter(getattr(answer, "code", "") for answer in await asyncio.gather(*asking, return_exceptions=True))
    assert answers == {"unauthorized": github.UNPROVEN_PER_MINUTE, "auth-unavailable": 90 - github.UNPROVEN_PER_MINUTE}
    assert len(api.asked) == github.UNPROVEN_PER_MINUTE


async def test_many_valid_users_of_one_address_are_let_in(api: Loopback, hub: Any, clock: Clock) -> None:
    """Many valid users of one address are let in at once: only unproven tokens count for its rate."""
    api.goes_on.clear()
    asking = [asyncio.create_task(hub.identify(f"{TOKEN}{number}", HERE)) for number in range(90)]
    await api.until_asked(github.CONNECTIONS)
    api.goes_on.set()
    assert {found.user for found in await asyncio.gather(*asking)} == {"ann"}
    assert (await hub.identify(TOKEN, HERE)).user == "ann"


async def test_cached_answers_are_bounded_and_hashed(api: Loopback, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many answers are remembered, under hashes that give no token away; the oldest goes first."""
    monkeypatch.setattr(github, "MAX_REMEMBERED", 3)
    for number in range(5):
        await hub.identify(f"{TOKEN}{number}", HERE)
    await hub.identify(f"{TOKEN}4", HERE)
    assert len(api.asked) == 5
    await hub.identify(f"{TOKEN}0", HERE)
    assert len(api.asked) == 6
    assert TOKEN.encode() not in repr(vars(hub)).encode()


@pytest.mark.parametrize("url", ["hush", "ftp://hush", "https:/hush", "https://[::1", "https://hush:x"])
def test_invalid_github_url_is_refused(url: str) -> None:
    """An invalid URL is refused with the name of the setting."""
    with pytest.raises(settings.SettingError, match=r"^GITHUB_API_URL is not a usable URL; accepted is"):
        github.GitHub(url)
