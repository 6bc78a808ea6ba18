"""The server and its store: what is answered or shown is on disk before, and found again."""

from __future__ import annotations

import asyncio
import re
from errno import EIO, ENOSPC
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from opennoodl_notification import queue, worker
from opennoodl_notification.edge.errors import StartError

from .conftest import Device, Serve
from .harness import Gate, content, health, http, ids

FULL = OSError(ENOSPC, "No space left on device")


async def commits(port: int) -> int:
    """Return how many commits there were."""
    name = b"opennoodl_notification_commits_total "
    _, body = await http(port, "/metrics")
    return next(int(float(line[len(name) :])) for line in body.splitlines() if line.startswith(name))


# Restarts


async def test_restart_keeps_order_and_contents(serve: Serve, device: Device) -> None:
    """A restart keeps everything: order, data, what was read and what was deleted."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    sent = [await sender.notify("u", kind, data={"ü": [number]}) for number, kind in enumerate(("invite", "system"))]
    deleted, marked = await sender.notify("u"), await sender.notify("u", idempotencyKey="k")
    await client.authenticate("u")
    await client.ask("mark-read", notificationId=marked)
    await client.ask("delete-notification", notificationId=deleted)
    page = await client.inbox()
    assert ids(page) == [marked, sent[1], sent[0]]
    await service.stop()

    again = await serve()
    assert (await health(again.port))[1]["notificationCount"] == 3
    assert await (await device(again)).authenticate("u") == page
    assert await (await device(again, "s")).notify("u", idempotencyKey="k") == marked


async def test_one_server_a_file(serve: Serve, device: Device) -> None:
    """A second server on the same file does not start, and the first goes on."""
    service = await serve()
    with pytest.raises(StartError, match="in use"):
        await serve()
    await (await device(service, "s")).notify("u")


async def test_damaged_file_stops_the_server(serve: Serve, file: Path) -> None:
    """A server does not start on a damaged file, and leaves it as it is."""
    await asyncio.to_thread(file.write_bytes, b'{"notifications":')
    with pytest.raises(StartError, match="damaged"):
        await serve()
    assert content(file) == b'{"notifications":'


# First the disk, then the answer


async def test_time_of_the_store_is_measured(serve: Serve, device: Device, gate: Gate) -> None:
    """While the disk works, the metrics say for how long a message has waited; then how long the batch took."""
    service = await serve()
    sender = await device(service, "s")
    assert service.app.worker.oldest() == 0
    gate.shut()
    began = monotonic()
    await sender.send("invite", targetUserId="u", data={})
    await gate.holds()
    since = monotonic()
    assert 0 < service.app.worker.oldest() <= monotonic() - began
    held = monotonic() - since
    gate.open()
    await sender.expect("notification-sent")
    assert service.app.worker.oldest() == 0
    text = service.app.metrics.text().decode()
    assert "opennoodl_notification_store_seconds_count 1.0" in text
    (total,) = re.findall(r"^opennoodl_notification_store_seconds_sum (\S+)", text, flags=re.MULTILINE)
    assert held <= float(total) <= monotonic() - began


async def test_nothing_before_the_commit(serve: Serve, device: Device, gate: Gate, file: Path) -> None:
    """While the disk works, nothing is answered, delivered or read of what it works on."""
    service = await serve()
    sender, receiver, reader = await device(service, "s"), await device(service, "u"), await device(service, "u")
    gate.shut()
    await sender.send("invite", targetUserId="u", data={})
    await gate.holds()
    await reader.send("get-notifications")
    late = await device(service)
    await late.send("authenticate", userId="u")
    for client in (sender, receiver, reader, late):
        assert await client.waiting() == []
    assert content(file) is None
    assert (await health(service.port))[0] == 200

    gate.open()
    id_ = (await sender.expect("notification-sent"))["notificationId"]
    assert id_.encode() in (content(file) or b"")
    for client in (receiver, reader):
        assert (await client.expect("notification"))["notification"]["id"] == id_
    assert ids(await reader.expect("notifications")) == [id_]
    await late.expect("authenticated")
    assert ids(await late.expect("notifications")) == [id_]


@pytest.mark.parametrize("change", ["mark-read", "mark-all-read", "delete-notification", "delete-all"])
async def test_no_change_before_the_commit(serve: Serve, device: Device, gate: Gate, change: str) -> None:
    """No device is told of a change, not even the one that asked for it, before it is on disk."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    one, two = await device(service, "u"), await device(service, "u")
    gate.shut()
    await one.send(change, notificationId=id_)
    await gate.holds()
    await two.send("get-notifications", limit=1)
    assert await one.waiting() == await two.waiting() == []
    gate.open()
    assert await one.get() == await two.get()
    page = await two.expect("notifications")
    assert page["unreadCount"] == 0


async def test_not_found_waits_for_the_commit(serve: Serve, device: Device, gate: Gate) -> None:
    """The answer `not-found` waits for the commit under way, since it depends on it."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    one, two = await device(service, "u"), await device(service, "u")
    gate.shut()
    await one.send("delete-notification", notificationId=id_)
    await gate.holds()
    await two.send("mark-read", notificationId=id_)
    assert await two.waiting() == []
    gate.open()
    await two.expect("notification-deleted")
    assert (await two.expect("error"))["code"] == "not-found"


async def test_leaving_before_the_answer(serve: Serve, device: Device, gate: Gate) -> None:
    """A client that disconnects during a commit is nobody's device, and its requests are still carried out."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    gate.shut()
    await sender.send("invite", targetUserId="u", data={})
    await gate.holds()
    await client.send("authenticate", userId="u")
    await client.send("invite", targetUserId="v", data={})
    await client.heard()
    await client.ws.close()
    gate.open()
    await sender.expect("notification-sent")
    assert ids(await sender.inbox()) == []
    told = (await health(service.port))[1]
    assert (told["notificationCount"], told["connectedUsers"]) == (2, 1)


async def test_fewer_commits_than_sends(serve: Serve, device: Device) -> None:
    """Many sends at once share commits, and all are stored and answered in order."""
    service = await serve(max_per_user=0)
    senders = [await device(service, f"s{number}") for number in range(5)]
    for number in range(100):
        for sender in senders:
            await sender.send("invite", targetUserId="u", data=number)
    for sender in senders:
        for _ in range(100):
            await sender.expect("notification-sent")
    assert 0 < await commits(service.port) < 250
    page = await (await device(service)).authenticate("u")
    assert page["unreadCount"] == 500


async def test_reads_cost_no_commit(serve: Serve, device: Device, gate: Gate) -> None:
    """Requests that change nothing cost no commit: reading, marking a read notification, deleting nothing."""
    service = await serve()
    client = await device(service, "u")
    await client.inbox()
    for change in ("mark-all-read", "delete-all"):
        await client.ask(change)
    assert gate.commits == await commits(service.port) == 0


async def test_many_in_one_commit(serve: Serve, device: Device, gate: Gate) -> None:
    """Sends during a commit share the next one."""
    service = await serve()
    first, sender = await device(service, "f"), await device(service, "s")
    gate.shut()
    await first.send("invite", targetUserId="u", data={})
    await gate.holds()
    for _ in range(50):
        await sender.send("invite", targetUserId="u", data={})
    assert await sender.waiting() == []
    gate.open()
    for _ in range(50):
        await sender.expect("notification-sent")
    assert gate.commits == 2


async def test_waiting_requests_are_bounded(
    serve: Serve, device: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk takes its time, more than may wait is refused at once; the rest is done, then there is room."""
    service = await serve()
    first, sender = await device(service, "f"), await device(service, "s")
    gate.shut()
    await first.send("invite", targetUserId="u", data={})
    await gate.holds()
    monkeypatch.setattr(queue, "MAX_QUEUED", 2 * queue.REQUEST_SIZE + 2500)
    for _ in range(3):
        await sender.send("invite", targetUserId="u", data="x" * 1000)
    assert (await sender.expect("error"))["code"] == "storage-unavailable"
    assert await sender.waiting() == []
    gate.open()
    for _ in range(2):
        await sender.expect("notification-sent")
    await sender.notify("u", data="x" * 1000)


async def test_heavy_sender_does_not_delay_others(serve: Serve, device: Device, gate: Gate, file: Path) -> None:
    """A user with very many requests delays only themselves: another user's message is in the next batch."""
    service = await serve(sends_per_hour=0, send_bytes_per_hour=0, max_per_user=0)
    first, flood, other = await device(service, "f"), await device(service, "flood"), await device(service, "o")
    gate.shut()
    await first.send("invite", targetUserId="u", data={})
    await gate.holds()
    users = [f"user {number}" for number in range(60)]
    for _ in range(20):
        await flood.send("send-notification", targetUserIds=users, notificationType="invite", data={})
    assert await flood.waiting() == []
    await other.send("invite", targetUserId="u", data={})
    assert await other.waiting() == []
    gate.open()
    id_ = (await other.expect("notification-sent"))["notificationId"]
    for _ in range(20):
        await flood.expect("notification-sent")
    commits = (content(file) or b"").splitlines()
    assert [id_.encode() in line for line in commits].index(True) == 1
    assert len(commits) > 5


async def test_a_defect_costs_one_batch(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a whole batch fails in a way nobody thought of, the next one is handled."""
    service = await serve()
    client = await device(service, "u")

    def fail(*_arguments: object) -> None:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "need", fail)
        await client.send("mark-all-read")
        assert await client.waiting() == []
    await client.inbox()


# A disk that fails

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("send-notification", {"targetUserId": "u", "notificationType": "invite", "data": {}}),
    ("invite", {"targetUserId": "u", "data": {}}),
    ("mark-read", {}),
    ("mark-all-read", {}),
    ("delete-notification", {}),
    ("delete-all", {}),
]


@pytest.mark.parametrize("asked", REQUESTS, ids=[name for name, _ in REQUESTS])
async def test_failed_commit_is_told_to_its_sender(
    serve: Serve, device: Device, gate: Gate, file: Path, asked: tuple[str, dict[str, Any]]
) -> None:
    """A failed commit is told to its senders alone, and reads show the stored state."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    client, other = await device(service, "u"), await device(service, "u")
    before, on_disk = await client.inbox(), content(file)
    gate.failure = FULL
    request_, fields = asked
    if request_ in ("mark-read", "delete-notification"):
        fields = {"notificationId": id_}
    error = await client.ask(request_, **fields, requestId=3)
    assert (error["type"], error["code"], error["requestId"]) == ("error", "storage-unavailable", 3)
    assert await client.inbox() == await other.inbox() == before
    assert await (await device(service)).authenticate("u") == before
    assert content(file) == on_disk
    gate.failure = None
    assert (await client.ask(request_, **fields))["type"] != "error"


async def test_health_of_a_failing_store(serve: Serve, device: Device, gate: Gate) -> None:
    """`/health` fails with the reason from the first commit that fails to the next that does not."""
    service = await serve()
    client = await device(service, "s")
    gate.failure = FULL
    for _ in range(2):
        assert await client.refused("invite", targetUserId="u", data={}) == "storage-unavailable"
        status, told = await health(service.port)
        assert (status, told["status"]) == (503, "failing")
        assert "stored" in told["reason"]
        assert told["notificationCount"] == 0
    assert ids(await client.inbox()) == []
    assert (await health(service.port))[0] == 503
    gate.failure = None
    await client.notify("u")
    status, told = await health(service.port)
    assert (status, told["status"], "reason" in told) == (200, "healthy", False)


async def test_failure_is_logged_once(
    serve: Serve, device: Device, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that fails is in the log when it begins, with each new reason, and when it works again."""
    service = await serve()
    client = await device(service, "s")
    for failure in (FULL, FULL, OSError(EIO, "Input/output error"), None):
        gate.failure = failure
        await client.ask("invite", targetUserId="u", data={})
    told = capsys.readouterr().out
    assert [told.count(text) for text in ("No space", "Input/output", "can be stored again")] == [1, 1, 1]


async def test_unexpected_store_error_is_handled(serve: Serve, device: Device, gate: Gate) -> None:
    """A store that fails in a way nobody thought of is a store that fails: the server says so and goes on."""
    service = await serve()
    client = await device(service, "s")
    gate.failure = RuntimeError("nobody thought of this")
    assert await client.refused("invite", targetUserId="u", data={}) == "storage-unavailable"
    assert (await health(service.port))[0] == 503
    gate.failure = None
    await client.notify("u")
    assert (await health(service.port))[0] == 200


async def test_reads_of_a_failed_batch_show_what_is_stored(serve: Serve, device: Device, gate: Gate) -> None:
    """Reads in a batch whose commit fails are answered from the store, in their order."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    blocker, client, other = await device(service, "x"), await device(service, "u"), await device(service)
    gate.shut()
    await blocker.send("invite", targetUserId="y", data={})
    await gate.holds()
    await client.send("delete-all")
    await client.send("get-notifications")
    await client.send("invite", targetUserId="u", data={})
    await client.send("get-notifications")
    await other.send("authenticate", userId="u")
    await other.send("mark-all-read")
    assert await other.waiting() == await client.waiting() == []
    gate.failure = FULL
    gate.open()
    for expected in (False, True, False, True):
        message = await client.get()
        assert ids(message) == [id_] if expected else message["code"] == "storage-unavailable"
    await other.expect("authenticated")
    assert ids(await other.expect("notifications")) == [id_]
    assert (await other.expect("error"))["code"] == "storage-unavailable"
    gate.failure = None
    await client.ask("delete-all")
    await other.expect("notifications-cleared")


@pytest.mark.parametrize("user", ["a", None])
async def test_request_of_a_failed_batch_is_answered_as_its_user(
    serve: Serve, device: Device, gate: Gate, user: str | None
) -> None:
    """A request before `authenticate` is answered as from its former user, also if the commit fails."""
    service = await serve()
    sender = await device(service, "s")
    sent = {to: await sender.notify(to) for to in ("a", "b")}
    client = await device(service, user)
    gate.shut()
    await sender.send("invite", targetUserId="x", data={})
    await gate.holds()
    await client.send("get-notifications")
    await client.send("authenticate", userId="b")
    await client.send("invite", targetUserId="x", data={})
    assert await client.waiting() == []
    gate.failure = FULL
    gate.open()
    first = await client.get()
    if user is None:
        assert (first["type"], first.get("code")) == ("error", "unauthorized")
    else:
        assert ids(first) == [sent["a"]]
    await client.expect("authenticated")
    assert ids(await client.expect("notifications")) == [sent["b"]]
    assert (await client.expect("error"))["code"] == "storage-unavailable"
