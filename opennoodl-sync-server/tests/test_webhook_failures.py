"""The webhook when posts fail: what is tried again, what is given up, and what the logs say."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from opennoodl_sync.edge.logs import configure

from .receiver import LONG, SECRET, SHORT, TIMEOUT, Document, Make, Receiver, answer, counted, vector


@pytest.fixture
def log_all(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], None]]:
    """Log at every level to standard output, from the call to the end of the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: configure("debug", "json")
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def warnings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the warnings that were logged."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["level"] == "warning"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_temporary_failure_is_retried_unchanged(webhooks: Make, receiver: Receiver, status: int) -> None:
    """After such an answer the same body comes under the same id, with the same signature."""
    webhook = webhooks()
    receiver.answers += [answer(status), answer(status)]
    Document(webhook).write()
    first, second, third = [await receiver.post() for _ in range(3)]
    assert first[:3] == second[:3] == third[:3]
    await webhook.close()
    assert webhook.posts == {"delivered": 1, "retried": 2, "dropped": 0}


@pytest.mark.parametrize("junk", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length"])
async def test_a_broken_answer_is_tried_again(webhooks: Make, receiver: Receiver, junk: bytes) -> None:
    """A connection that ends without an answer, or brings no HTTP, is a failed attempt and no more."""
    webhook = webhooks(attempt_timeout=LONG)
    receiver.answers.append(junk)
    Document(webhook).write()
    assert await receiver.post()
    assert await receiver.post()
    await webhook.close()
    assert webhook.posts == {"delivered": 1, "retried": 1, "dropped": 0}


async def test_a_receiver_that_is_down_is_tried_again(webhooks: Make, receiver: Receiver) -> None:
    """A refused connection is a failed attempt; the post comes when the receiver is back."""
    await receiver.stop()
    webhook = webhooks(delays=(SHORT,) * 1000)
    Document(webhook).write()
    await counted(webhook, "retried", 2)
    await receiver.start()
    assert vector(await receiver.post()) == b"1"


async def test_a_silent_receiver_is_tried_again(webhooks: Make, receiver: Receiver) -> None:
    """No answer within the time for an attempt is a failed attempt."""
    webhook = webhooks(attempt_timeout=0.1, delays=(0.0,) * 100)
    receiver.may_answer.clear()
    Document(webhook).write()
    await receiver.post()
    await receiver.post()
    receiver.may_answer.set()
    await counted(webhook, "delivered", 1)
    assert webhook.posts["retried"] >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
async def test_a_refused_post_is_dropped(webhooks: Make, receiver: Receiver, status: int) -> None:
    """An answer that will not be another one later is the last; the next change is posted again."""
    webhook = webhooks()
    receiver.answers.append(answer(status))
    document = Document(webhook)
    document.write()
    await receiver.post()
    await counted(webhook, "dropped", 1)
    document.write()
    assert vector(await receiver.post()) == b"2"
    await webhook.close()
    assert receiver.quiet
    assert webhook.posts == {"delivered": 1, "retried": 0, "dropped": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(webhooks: Make, receiver: Receiver, status: int) -> None:
    """Documents' names go where the operator said, and nowhere else."""
    webhook = webhooks()
    receiver.answers.append(answer(status, f"Location: http://127.0.0.1:{receiver.port}/elsewhere"))
    Document(webhook).write()
    await receiver.post()
    await webhook.close()
    assert receiver.quiet
    assert webhook.posts == {"delivered": 0, "retried": 0, "dropped": 1}


async def test_a_post_is_given_up_after_the_last_delay(
    webhooks: Make, receiver: Receiver, log_all: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """After the last delay, a post is given up with one warning that says where to, why and after how many."""
    log_all()
    webhook = webhooks(delays=(0.0, 0.0, 0.0))
    receiver.answers += [answer(503)] * 4
    Document(webhook).write()
    for _ in range(4):
        await receiver.post()
    await webhook.close()
    assert receiver.quiet
    assert webhook.posts == {"delivered": 0, "retried": 3, "dropped": 1}
    (line,) = warnings(capsys)
    assert (line["host"], line["answer"], line["attempts"]) == ("127.0.0.1", 503, 4)


async def test_a_change_before_a_retry(webhooks: Make, receiver: Receiver) -> None:
    """A retry posts the newest state under a new id, because a receiver ignores a known id."""
    webhook = webhooks()
    document = Document(webhook)
    receiver.may_answer.clear()
    receiver.answers.append(answer(503))
    document.write()
    first = await receiver.post()
    document.write()
    receiver.may_answer.set()
    second = await receiver.post()
    assert (vector(first), vector(second)) == (b"1", b"2")
    assert first.headers["x-opennoodl-delivery"] != second.headers["x-opennoodl-delivery"]
    await webhook.close()
    assert webhook.posts == {"delivered": 1, "retried": 1, "dropped": 0}


async def test_changes_do_not_make_attempts_endless(webhooks: Make, receiver: Receiver) -> None:
    """A post that replaces a failed one has only the attempts that were left."""
    webhook = webhooks(delays=(0.0,))
    document = Document(webhook)
    receiver.may_answer.clear()
    receiver.answers += [answer(503)] * 2
    document.write()
    await receiver.post()
    document.write()
    receiver.may_answer.set()
    assert vector(await receiver.post()) == b"2"
    await webhook.close()
    assert webhook.posts == {"delivered": 0, "retried": 1, "dropped": 1}


async def test_attempts_start_again(webhooks: Make, receiver: Receiver) -> None:
    """After a success, the next post has all its attempts, even if its change came during the one before."""
    webhook = webhooks(delays=(0.0,))
    receiver.answers += [answer(503), answer(204), answer(503), answer(204)]
    document = Document(webhook)
    document.write()
    await receiver.post()
    receiver.may_answer.clear()
    await receiver.post()
    document.write()
    receiver.may_answer.set()
    await receiver.post()
    await receiver.post()
    await webhook.close()
    assert webhook.posts == {"delivered": 2, "retried": 2, "dropped": 0}


async def test_the_end_while_waiting_for_a_retry(webhooks: Make, receiver: Receiver) -> None:
    """At the end, what waits to be tried again is tried once, and not again."""
    webhook = webhooks(delays=(0.0, LONG, LONG))
    receiver.answers += [answer(503)] * 3
    Document(webhook).write()
    first = await receiver.post()
    await receiver.post()
    await counted(webhook, "retried", 2)
    await webhook.close()
    assert (await receiver.post())[:3] == first[:3]
    assert receiver.quiet
    assert webhook.posts == {"delivered": 0, "retried": 2, "dropped": 1}


async def test_the_end_does_not_wait_for_long(
    webhooks: Make, receiver: Receiver, log_all: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A receiver that does not answer does not keep the server from its end; what is lost is said in one line."""
    log_all()
    webhook = webhooks(LONG, close_timeout=SHORT)
    receiver.may_answer.clear()
    for number in range(10):
        Document(webhook, f"room {number}").write()
    await asyncio.wait_for(webhook.close(), TIMEOUT)
    assert webhook.posts == {"delivered": 0, "retried": 0, "dropped": 10}
    (line,) = warnings(capsys)
    assert line["posts"] == 10


async def test_logs_are_discreet(
    webhooks: Make, receiver: Receiver, log_all: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """No log line, whatever its level, holds what stands in the URL beside the host, the secret, or a body."""
    log_all()
    webhook = webhooks(url=f"http://user-HUSH:password-HUSH@127.0.0.1:{receiver.port}/path-HUSH?token=HUSH")
    receiver.answers += [answer(503), b"", answer(400)]
    webhook.changed("room-HUSH", lambda: b"state")
    for _ in range(3):
        post = await receiver.post()
    assert post.headers["authorization"] == "Basic " + base64.b64encode(b"user-HUSH:password-HUSH").decode()
    await webhook.close()
    text = capsys.readouterr().out
    assert '"answer": 400' in text
    assert "HUSH" not in text
    assert SECRET not in text
    assert base64.b64encode(b"state").decode() not in text
