"""The webhook: what it posts, when, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.webhook import CLOCK_STEP, MAX_DEBOUNCES, MAX_POSTS, Webhook

from .receiver import LONG, SECRET, SHORT, Document, Make, Receiver, answer, counted, vector


async def test_a_change_is_posted(webhooks: Make, receiver: Receiver) -> None:
    """The post goes to the URL with its query, and says what changed, to which state, and when."""
    webhook = webhooks(url=f"http://127.0.0.1:{receiver.port}/some/hook?token=1")
    webhook.changed("a/room%20\u00fc", lambda: bytes(range(256)))
    post = await receiver.post()
    assert post.line == "POST /some/hook?token=1 HTTP/1.1"
    assert post.headers["content-type"] == "application/json"
    assert set(post.json) == {"event", "room", "stateVector", "time"}
    assert (post.json["event"], post.json["room"]) == ("document-changed", "a/room%20\u00fc")
    assert vector(post) == bytes(range(256))
    assert post.json["time"].endswith("Z")
    assert abs(datetime.fromisoformat(post.json["time"]) - datetime.now(UTC)) < timedelta(minutes=1)
    await webhook.close()
    assert webhook.posts == {"delivered": 1, "retried": 0, "dropped": 0}


async def test_changes_wait_until_they_are_posted(webhooks: Make, receiver: Receiver) -> None:
    """A change is in the queue while it waits, with its age; a post that failed keeps the age; then there is none."""
    webhook = webhooks(delays=(LONG,))
    assert (webhook.queued, webhook.oldest()) == (0, 0.0)
    receiver.answers.append(answer(503))
    loop = asyncio.get_running_loop()  # uvloop's clock stands still within a turn
    began = loop.time()
    webhook.changed("a", lambda: b"1")
    await counted(webhook, "retried", 1)
    assert webhook.queued == 1
    assert 0 < webhook.oldest() <= loop.time() - began
    await webhook.close()
    assert (webhook.queued, webhook.oldest()) == (0, 0.0)


async def test_a_post_is_signed(webhooks: Make, receiver: Receiver) -> None:
    """The signature is HMAC-SHA256 of the body as it was sent, after RFC 2104."""
    Document(webhooks()).write()
    post = await receiver.post()
    key = SECRET.encode().ljust(64, b"\x00")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + post.body).digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert post.headers["x-opennoodl-signature"] == f"sha256={outer}"


async def test_the_documented_check(webhooks: Make, receiver: Receiver) -> None:
    """The check in docs/webhook.md accepts a post, and refuses it with another body, signature or secret."""
    code = re.search(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "webhook.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102  # our own page
    Document(webhooks()).write()
    post = await receiver.post()
    signature = post.headers["x-opennoodl-signature"]
    assert names["genuine"](post.body, signature, SECRET)
    assert not names["genuine"](post.body + b" ", signature, SECRET)
    assert not names["genuine"](post.body, signature[:-1], SECRET)
    assert not names["genuine"](post.body, signature, SECRET + "!")


async def test_a_document_is_posted_at_rest(webhooks: Make, receiver: Receiver) -> None:
    """As long as changes come one soon after the other, none is posted; then one post tells the last."""
    debounce = 0.1
    document = Document(webhooks(debounce))
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * debounce
    while loop.time() < end:
        document.write()
        await asyncio.sleep(0)
        # A machine that stands still for a moment gives the document its rest.
        assert not document.asked or document.rest() >= debounce - 2 * CLOCK_STEP
    while vector(await receiver.post()) != b"%d" % len(document.changes):
        pass
    assert document.rest() >= debounce - 2 * CLOCK_STEP


async def test_a_document_that_never_rests_is_posted(webhooks: Make, receiver: Receiver) -> None:
    """Under constant change there is a post, and not before ten times the debounce."""
    document = Document(webhooks(SHORT))
    post = asyncio.create_task(receiver.post())
    while not post.done():
        document.write()
        await asyncio.sleep(0)
    assert post.result().json["room"] == "room"
    waited = document.asked[0] - document.changes[0]
    # A machine that stood still for a moment gave the document its rest.
    assert waited >= MAX_DEBOUNCES * SHORT - 2 * CLOCK_STEP or document.rest() >= SHORT - 2 * CLOCK_STEP


async def test_each_document_is_posted(webhooks: Make, receiver: Receiver) -> None:
    """Documents that change at the same time are posted each, with a state and an id of its own."""
    webhook = webhooks()
    for number in range(10):
        document = Document(webhook, f"room {number}")
        for _ in range(number + 1):
            document.write()
    posts = [await receiver.post() for _ in range(10)]
    assert {post.json["room"]: vector(post) for post in posts} == {f"room {n}": b"%d" % (n + 1) for n in range(10)}
    assert len({post.headers["x-opennoodl-delivery"] for post in posts}) == 10


async def test_a_document_is_posted_again(webhooks: Make, receiver: Receiver) -> None:
    """A change after a post is a new post."""
    webhook = webhooks()
    document = Document(webhook)
    ids = set()
    for number in range(1, 4):
        document.write()
        post = await receiver.post()
        assert vector(post) == b"%d" % number
        ids.add(post.headers["x-opennoodl-delivery"])
    assert len(ids) == 3


async def test_a_change_under_way(webhooks: Make, receiver: Receiver) -> None:
    """A change while its room is being posted waits for the end of that, and is posted then."""
    document = Document(webhooks())
    receiver.may_answer.clear()
    document.write()
    assert vector(await receiver.post()) == b"1"
    document.write()
    document.write()
    receiver.may_answer.set()
    assert vector(await receiver.post()) == b"3"
    assert receiver.peak == 1


async def test_few_posts_at_once(webhooks: Make, receiver: Receiver) -> None:
    """However many documents change, the receiver gets a handful of posts at once, and all in the end."""
    webhook = webhooks()
    receiver.may_answer.clear()
    for number in range(5 * MAX_POSTS):
        Document(webhook, f"room {number}").write()
    for _ in range(MAX_POSTS):
        await receiver.post()
    assert len(receiver.open) == MAX_POSTS
    receiver.may_answer.set()
    for _ in range(4 * MAX_POSTS):
        await receiver.post()
    assert receiver.peak == MAX_POSTS


async def test_nothing_to_tell(webhooks: Make, receiver: Receiver) -> None:
    """A document that has no state to tell by then is not posted."""
    webhook = webhooks()
    webhook.changed("gone", lambda: None)
    await webhook.close()
    assert receiver.quiet
    assert webhook.posts == {"delivered": 0, "retried": 0, "dropped": 0}


async def test_the_end_posts_waiting_documents_at_once(webhooks: Make, receiver: Receiver) -> None:
    """At the end, what waits for rest is posted at once."""
    webhook = webhooks(LONG)
    for number in range(10):
        Document(webhook, f"room {number}").write()
    await webhook.close()
    assert {(await receiver.post()).json["room"] for _ in range(10)} == {f"room {number}" for number in range(10)}
    assert webhook.posts == {"delivered": 10, "retried": 0, "dropped": 0}


async def test_the_end_while_posting(webhooks: Make, receiver: Receiver) -> None:
    """At the end, a change during a post is posted after it."""
    webhook = webhooks()
    document = Document(webhook)
    receiver.may_answer.clear()
    document.write()
    await receiver.post()
    webhook._debounce = LONG
    document.write()
    closing = asyncio.create_task(webhook.close())
    await asyncio.sleep(0)
    receiver.may_answer.set()
    await closing
    assert vector(await receiver.post()) == b"2"
    assert webhook.posts == {"delivered": 2, "retried": 0, "dropped": 0}


async def test_after_the_end(webhooks: Make, receiver: Receiver) -> None:
    """A change after the end is not posted."""
    webhook = webhooks()
    await webhook.close()
    document = Document(webhook)
    document.write()
    await webhook.close()
    assert document.asked == []
    assert receiver.quiet


async def test_a_long_answer_is_not_read(webhooks: Make, receiver: Receiver) -> None:
    """An answer that does not end is a success by its status, and its connection is left."""
    webhook = webhooks(attempt_timeout=LONG)
    receiver.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + bytes(1_000_000))
    document = Document(webhook)
    document.write()
    await receiver.post()
    await counted(webhook, "delivered", 1)
    document.write()
    assert vector(await receiver.post()) == b"2"


async def test_an_answer_that_stops(webhooks: Make, receiver: Receiver) -> None:
    """A success whose body does not come is a success all the same, and not tried again."""
    webhook = webhooks(attempt_timeout=1.0)
    receiver.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    Document(webhook).write()
    await receiver.post()
    await webhook.close()
    assert receiver.quiet
    assert webhook.posts == {"delivered": 1, "retried": 0, "dropped": 0}


async def test_cookies_are_not_kept(webhooks: Make, receiver: Receiver) -> None:
    """Cookies of a receiver are not kept."""
    webhook = webhooks()
    receiver.answers += [answer(503, "Set-Cookie: a=b; Path=/")]
    Document(webhook).write()
    await receiver.post()
    assert "cookie" not in (await receiver.post()).headers


async def test_the_environment_is_not_asked(
    webhooks: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is meant for other programs gets no posts."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    webhook = webhooks(delays=())
    Document(webhook).write()
    await receiver.post()
    await webhook.close()
    assert webhook.posts["delivered"] == 1


async def test_connections_are_used_again(webhooks: Make, receiver: Receiver) -> None:
    """Posts one after the other share a connection, also after answers with a body."""
    webhook = webhooks()
    receiver.answers += [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"] * 3
    document = Document(webhook)
    for number in range(1, 4):
        document.write()
        await receiver.post()
        await counted(webhook, "delivered", number)
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "hook.example",
        "ftp://hush.example",
        "https://",
        "https:hush",
        "http:///hush",
        "http://hush:0",
        "http://hush:65536",
        "http://hush:x",
        "https://hush\n",
        "https://hush\udcff",
        "https://user:hush@",
    ],
)
def test_a_bad_url(url: str) -> None:
    """An unusable URL stops the start with one line that names the setting and not its value."""
    with pytest.raises(StartError) as info:
        Webhook(url, SECRET, 1.0)
    assert str(info.value) == "WEBHOOK_URL is not usable; accepted is an http:// or https:// URL"


@pytest.mark.parametrize(("secret", "fault"), [("", "not set"), ("hush", "too short"), ("x" * 15, "too short")])
def test_a_bad_secret(secret: str, fault: str) -> None:
    """A secret that is missing or short stops the start, with one line that names the setting and not its content."""
    with pytest.raises(StartError) as info:
        Webhook("https://hook.example", secret, 1.0)
    assert str(info.value) == f"WEBHOOK_SECRET is {fault}, and WEBHOOK_URL is; accepted are 16 characters or more"


@pytest.mark.parametrize("url", ["http://localhost", "HTTPS://hook.example:8443/a?b=c", "https://u:p@[::1]/x"])
async def test_a_good_url(url: str) -> None:
    """A URL of HTTP, with or without TLS, is accepted without an error."""
    await Webhook(url, SECRET, 1.0).close()
