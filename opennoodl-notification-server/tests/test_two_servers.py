"""Two servers on one PostgreSQL, as in the seconds of a deploy: nothing is lost, doubled or miscounted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from opennoodl_notification import cleanup, totals
from opennoodl_notification.edge.service import Service
from opennoodl_notification.inbox.store import Changes, Needs
from opennoodl_notification.storage.sql.store import SqlStore

from .conftest import Device, Serve
from .harness import TIMEOUT, Client, health
from .places import place

INBOXES = 40
KEYS = 20
STARTS = 6


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is."""
    return place("postgresql", tmp_path)


async def two_senders(serve: Serve, device: Device, at: str) -> tuple[Client, Client]:
    """Return a device of one user at each of two servers."""
    first, second = [await serve(database_url=at, sends_per_hour=0, send_bytes_per_hour=0) for _ in range(2)]
    return await device(first, "sender"), await device(second, "sender")


async def same_numbers(at: str, users: list[str]) -> list[str]:
    """Return the users whose inbox is not what two notifications make, each with a number of its own."""
    store = SqlStore(at)
    await store.open()
    needs = Needs("", 0)
    needs.users.update(dict.fromkeys(users, 0))
    async with store.transaction(needs) as transaction:
        inboxes = transaction.loaded.inboxes
    wrong = []
    for user in users:
        numbers = [one.sequence for one in await store.changed(user, 0)]
        state = inboxes[user]
        if (state.total, state.unread, len(set(numbers))) != (2, 2, 2) or max(numbers) != state.sequence:
            wrong.append(user)
    await store.close()
    return wrong


async def test_stored_size_of_both(serve: Serve, device: Device, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data stored by one server counts for the bound and in `/health` of the other one after the next count."""
    monkeypatch.setattr(totals, "COUNT_INTERVAL", 0.0)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.01)
    first, second = [await serve(database_url=at, max_stored_size=20_000) for _ in range(2)]
    sender, other = await device(first, "s"), await device(second, "s")
    while (answer := await sender.ask("invite", targetUserId="u", data="x" * 2000))["type"] == "notification-sent":
        pass
    assert answer["code"] == "storage-full"
    async with asyncio.timeout(TIMEOUT):
        while await counted(second) < await counted(first):
            await other.heard()
    assert await other.refused("invite", targetUserId="u", data="x" * 2000) == "storage-full"


async def counted(service: Service) -> int:
    """Return how many notifications a server says there are."""
    return int((await health(service.port))[1]["notificationCount"])


async def blocked(store: SqlStore) -> None:
    """Wait until some transaction waits for the lock of another one."""
    waiting = sa.text("select count(*) from pg_locks where not granted")
    while True:
        async with store._engine.connect() as connection:
            if (await connection.execute(waiting)).scalar():
                return


async def test_new_inbox_of_two_servers_counts_both(serve: Serve, device: Device, at: str) -> None:
    """An inbox whose first two notifications come through two servers at once has both, and counts both."""
    first, second = await two_senders(serve, device, at)
    users = [f"user {number}" for number in range(INBOXES)]
    for user in users:
        await asyncio.gather(first.notify(user), second.notify(user))
    assert await same_numbers(at, users) == []


async def test_new_inboxes_of_two_servers_do_not_deadlock(serve: Serve, device: Device, at: str) -> None:
    """Two servers that send to the same new users, in whatever order, do not wait for each other in a circle."""
    first, second = await two_senders(serve, device, at)
    users = [f"user {number}" for number in range(INBOXES)]
    for start in range(0, INBOXES, 5):
        some = users[start : start + 5]
        fields = {"notificationType": "invite", "data": {}}
        answers = await asyncio.gather(
            first.ask("send-notification", targetUserIds=some, **fields),
            second.ask("send-notification", targetUserIds=some[::-1], **fields),
        )
        assert {answer["type"] for answer in answers} == {"notification-sent"}
    assert await same_numbers(at, users) == []


async def test_one_key_through_two_servers_sends_once(serve: Serve, device: Device, at: str) -> None:
    """Two sends under one key through two servers at once are stored once, and get the same answer."""
    first, second = await two_senders(serve, device, at)
    for number in range(KEYS):
        sent = {"user": f"user {number}", "idempotencyKey": f"key {number}"}
        one, other = await asyncio.gather(first.notify(**sent), second.notify(**sent))
        assert one == other
    store = SqlStore(at)
    await store.open()
    assert (await store.counts()).notifications == KEYS
    await store.close()


async def test_one_key_for_two(serve: Serve, device: Device, at: str) -> None:
    """Of two notifications to different users under one key, through two servers at once, one is sent."""
    first, second = await two_senders(serve, device, at)
    for number in range(KEYS):
        fields = {"notificationType": "invite", "data": {}, "idempotencyKey": f"key {number}"}
        answers = await asyncio.gather(
            first.ask("send-notification", targetUserId=f"one {number}", **fields),
            second.ask("send-notification", targetUserId=f"other {number}", **fields),
        )
        assert sorted(answer.get("code", "sent") for answer in answers) == ["idempotency-conflict", "sent"]


async def test_simultaneous_first_starts_succeed(at: str) -> None:
    """Servers that start at the same time on an empty database all start, and each has an epoch of its own."""
    stores = [SqlStore(at) for _ in range(STARTS)]
    await asyncio.gather(*(store.open() for store in stores))
    epochs = set()
    for store in stores:
        async with store.transaction(Needs("", 0)) as transaction:
            epochs.add(transaction.loaded.epoch)
        await store.close()
    assert len(epochs) == STARTS


async def test_forgotten_inbox_is_recreated(at: str) -> None:
    """An inbox that one server forgets while another one waits to send to it is made anew."""
    first, second = SqlStore(at), SqlStore(at)
    await first.open()
    await second.open()
    needs = Needs("", 0)
    needs.users["u"] = 1
    async with first.transaction(needs) as transaction:
        state = transaction.loaded.inboxes["u"]
        state.sequence = 5
        await transaction.commit(Changes(inboxes=[state]))

    async def wait() -> int:
        async with second.transaction(needs) as waiting:
            return waiting.loaded.inboxes["u"].sequence

    async with first.transaction(needs) as transaction:
        task = asyncio.create_task(wait())
        await blocked(first)
        await transaction.commit(Changes(forgotten=["u"]))
    assert await task == 0
    await first.close()
    await second.close()
