"""Two instances on one PostgreSQL, with faults under load: what holds all the same.

N1: what was acknowledged is there once. N2: numbers of an inbox are unique, and its totals are counts. N3: the numbers
that a device is told never go down, and what it knows is what is stored. N4: all is heard everywhere at the latest with
the next comparison of numbers with the database, every 10 seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest
from opennoodl_notification.edge.messages import encode
from opennoodl_notification.inbox.store import Needs, Query
from opennoodl_notification.records import Deletion, timestamp
from opennoodl_notification.storage.sql.store import SqlStore
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from .database import Database, Link
from .desk import Device
from .harness import TIMEOUT, Client, Json, health
from .places import place
from .process import Process

USERS = ("ann", "bob", "cem")
DEVICES = 3
"""Of each user."""
PATIENCE = 4.0
"""Seconds after which a device takes an instance that does not answer for gone."""
HEARD = 18.0
"""Seconds within which a change is heard everywhere: the next comparison finds it, however busy the machine is, and not
the one after that."""
PACE = 0.06
"""Seconds that a device waits at most between two acts: 9 devices always have something under way, and do not use up
the machine."""
LOST = (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, TimeoutError)
FAULTS = ("kill", "stop", "cut", "cut hints", "reset", "restart")
"""What may happen to an instance, to its ways to the database, or to the database itself."""

Inbox = dict[str, Json]
"""Notifications by id, as devices know them."""

pytestmark = pytest.mark.xdist_group("chaos")


class Instance:
    """One server with two ways to the database: one that stores, and one for hints.

    Attributes:
        port: where it listens; 0 while it does not.
    """

    def __init__(self, url: str) -> None:
        self.store, self.hints = Link(url), Link(url)
        self.process: Process | None = None
        self.port = 0
        self.logs = ""

    async def start(self) -> None:
        """Start it."""
        for link in (self.store, self.hints):
            if not link.url:
                await link.start()
        self.process = await Process.start(self.store.url, DATABASE_LISTEN_URL=self.hints.url)
        self.port = self.process.port

    async def kill(self) -> None:
        """End it at once."""
        self.port = 0
        if self.process is not None:
            self.logs += await self.process.kill()
            self.process = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.child.pid, number)

    async def end(self) -> None:
        """End it and its links; nothing unforeseen may have been logged."""
        await self.kill()
        for link in (self.store, self.hints):
            await link.stop()
        assert [line for line in self.logs.splitlines() if "could not be handled" in line] == []


class Editor:
    """A device that comes back to any instance, and sends and changes what it can.

    Attributes:
        mirror: the inbox as it knows it.
        answered: ids of what it has sent, as far as it was answered.
        settled: whether it only listens: there is peace, and all that it has asked for was answered.
    """

    def __init__(self, user: str, name: str, dice: random.Random, world: World) -> None:
        self.user = user
        self.mirror = Device()
        self.answered: set[str] = set()
        self.settled = False
        self.port = 0
        self._name = name
        self._dice = dice
        self._world = world
        self._unanswered: Json | None = None
        self._requests = 0
        self._client: Client | None = None

    def difference(self, stored: Inbox) -> str:
        """Return how what it knows differs from what is stored, or an empty text."""
        known, unread = self.mirror.notifications, sum(not one["read"] for one in stored.values())
        texts = [f"unread is {self.mirror.unread}, not {unread}"] if self.mirror.unread != unread else []
        for id_ in sorted(known.keys() | stored.keys()):
            one, other = known.get(id_), stored.get(id_)
            if one != other:
                texts.append(f"{id_} is {_shown(one)}, not {_shown(other)}")
        where = f"N3, N4: {self._name} at {self.port}, at number {self.mirror.sequence}"
        return f"{where}: {'; '.join(texts)}" if texts else ""

    async def live(self) -> None:
        """Act until there is peace, and then listen."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._come_back()
                while not self._world.peace:
                    async with asyncio.timeout(PATIENCE):
                        await self._act()
                    await asyncio.sleep(self._dice.uniform(0, PACE))
                if self._unanswered is not None:
                    async with asyncio.timeout(PATIENCE):
                        await self._send_again()
                self.settled = True
                await self._listen()
            except LOST:
                self.settled = False
                if self._client is not None:
                    self._client.ws.transport.abort()
                await asyncio.sleep(self._dice.uniform(0.02, 0.2))

    async def leave(self) -> None:
        """Cut the connection."""
        if self._client is not None:
            self._client.ws.transport.abort()
            await self._client.ws.wait_closed()

    async def _come_back(self) -> None:
        port = self._dice.choice([instance.port for instance in self._world.instances])
        if not port:
            raise ConnectionRefusedError
        self._client, self.port = await Client.connect(port), port
        answer = await self._ask({"type": "authenticate", "userId": self.user, "since": self.mirror.sequence})
        if answer["type"] == "error":
            raise TimeoutError
        if not answer["complete"]:
            self.mirror = Device()
        while (message := await self._hear())["type"] != "up-to-date":
            if message["type"] == "notifications":
                assert not message["hasMore"], "the inbox does not fit into a page"

    async def _act(self) -> None:
        if self._unanswered is not None:
            await self._send_again()
            return
        known = list(self.mirror.notifications)
        change = self._dice.choice(["send", "send", "mark-read", "mark-unread", "delete-notification", "pause"])
        if change == "pause":
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await self._hear()
        elif change == "send" and len(known) < 40:
            self._requests += 1
            token = f"{self._name} {self._requests}"
            size = self._dice.choice([10, 100, 100, 7600])  # the last one does not fit into a hint
            data = {"token": token, "text": "x" * size}
            fields = {"targetUserId": self._dice.choice(USERS), "notificationType": "invite", "data": data}
            self._unanswered = {"type": "send-notification", **fields, "idempotencyKey": token}
            await self._send_again()
        elif known:
            id_ = self._dice.choice(known)
            if change == "send":
                change = "delete-notification"
            if change == "delete-notification":
                self._world.deleted.add(id_)
            await self._ask({"type": change, "notificationId": id_})

    async def _send_again(self) -> None:
        assert self._unanswered is not None
        answer = await self._ask(self._unanswered)
        if answer["type"] == "notification-sent":
            self.answered.add(answer["notificationId"])
            self._unanswered = None
        else:
            assert answer["code"] == "storage-unavailable", answer

    async def _ask(self, message: Json) -> Json:
        assert self._client is not None
        self._requests += 1
        await self._client.text(json.dumps({**message, "requestId": self._requests}))
        while (answer := await self._hear()).get("requestId") != self._requests:
            pass
        return answer

    async def _listen(self) -> None:
        while True:
            assert self._client is not None
            message = json.loads(await self._client.ws.recv())
            self.mirror.apply(message)

    async def _hear(self) -> Json:
        assert self._client is not None
        message = await self._client.get()
        self.mirror.apply(message)  # and see that the number does not go down: N3
        return message


class World:
    """All instances and devices."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self.url = url
        self.database: Database | None = None
        self.dice = dice
        self.peace = False
        self.deleted: set[str] = set()
        self.instances = [Instance(url), Instance(url)]
        self.editors = [
            Editor(user, f"{user} {number}", random.Random(dice.getrandbits(32)), self)  # noqa: S311
            for user in USERS
            for number in range(DEVICES)
        ]

    async def meet(self, fault: str) -> None:
        """Let a fault happen, and mend it."""
        instance, seconds = self.dice.choice(self.instances), self.dice.uniform(0.5, 5)
        print(f"{fault} {self.instances.index(instance)} for {seconds:.1f} s")
        match fault:
            case "kill":
                await instance.kill()
                await instance.start()
            case "stop":
                instance.signal(signal.SIGSTOP)
                await asyncio.sleep(seconds)
                instance.signal(signal.SIGCONT)
            case "cut" | "cut hints":
                link = instance.store if fault == "cut" else instance.hints
                link.cut()
                await asyncio.sleep(seconds)
                link.mend()
            case "reset":
                instance.store.reset()
                instance.hints.reset()
            case "restart":
                assert self.database is not None
                await asyncio.to_thread(self.database.stop)
                await asyncio.sleep(seconds / 5)
                for one in self.instances:
                    assert (await health(one.port))[0] == 200
                await asyncio.to_thread(self.database.start)

    async def end(self) -> list[str]:
        """Let there be peace; return what is wrong in the end."""
        self.peace = True
        async with asyncio.timeout(4 * TIMEOUT):
            while not all(editor.settled for editor in self.editors):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        began = changed = monotonic()
        store = SqlStore(self.url, read_only=True)
        await store.open()
        stored = await everything_in(store)
        while wrong := [text for editor in self.editors if (text := editor.difference(stored[editor.user]))]:
            if monotonic() - changed > HEARD:
                break
            await asyncio.sleep(0.05)
            now = await everything_in(store)
            if now != stored:  # a server still handles the request of a device that has not waited for the answer
                stored, changed = now, monotonic()
        await store.close()
        print(f"all is heard everywhere after {monotonic() - began:.1f} s")
        return [*wrong, *self._acknowledged(stored), *await self.counted()]

    def _acknowledged(self, stored: dict[str, Inbox]) -> Iterator[str]:
        notifications = [one for inbox in stored.values() for one in inbox.values()]
        tokens = [one["data"]["token"] for one in notifications]
        answered = {id_ for editor in self.editors for id_ in editor.answered}
        if len(tokens) != len(set(tokens)):
            yield "N1: something is there twice"
        if missing := answered - self.deleted - {one["id"] for one in notifications}:
            yield f"N1: {len(missing)} of {len(answered)} are missing"

    async def counted(self) -> list[str]:
        store = SqlStore(self.url)
        await store.open()
        wrong = []
        needs = Needs("", 0)
        needs.users.update(dict.fromkeys(USERS, 0))
        async with store.transaction(needs) as transaction:
            for user, inbox in transaction.loaded.inboxes.items():
                changed = await store.changed(user, 0)
                numbers = [one.sequence for one in changed]
                records = [one for one in changed if not isinstance(one, Deletion)]
                unread = sum(not record.read for record in records)
                if len(set(numbers)) != len(numbers):
                    wrong.append(f"N2: numbers of {user} are not unique")
                if (inbox.total, inbox.unread) != (len(records), unread):
                    wrong.append(f"N2: {user} has {len(records)}, {unread} of them unread, and not {inbox}")
        await store.close()
        return wrong


def _shown(notification: Json | None) -> str:
    if notification is None:
        return "missing"
    return ", ".join(f"{name} {notification[name]}" for name in ("read", "readAt", "createdAt") if name in notification)


async def everything_in(store: SqlStore) -> dict[str, Inbox]:
    """Return all inboxes as they are in the database, which no server reads for this: that would tell its devices."""
    inboxes = {}
    for user in USERS:
        records = await store.page(user, Query(1_000_000), timestamp(0))
        inboxes[user] = {record.id: json.loads(encode(record.shown())) for record in records}
    return inboxes


async def everything(port: int, user: str) -> list[Json]:
    """Return the whole inbox of a user, as a new device sees it."""
    client = await Client.connect(port)
    page = await client.authenticate(user)
    assert not page["hasMore"]
    await client.ws.close()
    inbox: list[Json] = page["notifications"]
    return inbox


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is, which other tests use, too."""
    return place("postgresql", tmp_path)


@pytest.fixture
async def world(at: str, dice: random.Random) -> AsyncIterator[World]:
    """Start two instances."""
    async with started(World(at, dice)) as world:
        yield world


@pytest.fixture
async def fragile_world(dice: random.Random) -> AsyncIterator[World]:
    """Start two instances on a PostgreSQL of their own, which may be stopped."""
    database = await asyncio.to_thread(Database)
    world = World(database.url, dice)
    world.database = database
    async with started(world):
        yield world
    await asyncio.to_thread(database.stop)


@asynccontextmanager
async def started(world: World) -> AsyncIterator[World]:
    """Start the instances, and end them."""
    try:
        await asyncio.gather(*(instance.start() for instance in world.instances))
        yield world
    finally:
        for instance in world.instances:
            await instance.end()


@asynccontextmanager
async def living(world: World) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Let all devices act."""
    tasks = [asyncio.create_task(editor.live()) for editor in world.editors]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for editor in world.editors:
            await editor.leave()


async def test_n1_acknowledged_notification_is_stored_once(world: World) -> None:
    """N1: a notification sent through both instances under one key, while one is killed, is stored once."""
    receiver = await Client.connect(world.instances[1].port)
    await receiver.authenticate("u")
    acknowledged = set()
    for number in range(3):
        senders = [await Client.connect(instance.port) for instance in world.instances]
        for sender in senders:
            await sender.authenticate("s")
        fields = {"targetUserId": "u", "notificationType": "invite", "idempotencyKey": f"key {number}"}
        for sender in senders:
            await sender.send("send-notification", **fields)
        await asyncio.sleep(world.dice.uniform(0, 0.01))
        await world.instances[0].kill()
        acknowledged.add((await senders[1].expect("notification-sent"))["notificationId"])
        for sender in senders:
            sender.ws.transport.abort()
        await world.instances[0].start()
    assert {one["id"] for one in await everything(world.instances[0].port, "u")} == acknowledged
    assert len(acknowledged) == 3
    heard = [(await receiver.expect("notification"))["notification"]["id"] for _ in acknowledged]
    assert set(heard) == acknowledged
    await receiver.ws.close()


async def test_n2_numbers_and_totals(world: World) -> None:
    """N2: what both instances change at once has numbers of its own, and totals are counts."""
    clients = [await Client.connect(instance.port) for instance in world.instances * 3]
    for client in clients:
        await client.authenticate("s")

    async def change(client: Client) -> None:
        fields = {"targetUserIds": list(USERS), "notificationType": "invite"}
        for number in range(15):
            await client.send("send-notification", requestId=number, **fields)
            while (sent := await client.get()).get("requestId") != number:
                pass
            if number % 2:
                await client.send("revoke-notification", notificationId=sent["notificationIds"][number % 3])

    await asyncio.gather(*map(change, clients))
    for client in clients:
        await client.heard()
        await client.ws.close()
    assert await world.counted() == []


async def test_n3_numbers_of_a_device(world: World) -> None:
    """N3: devices at two instances that change the same inboxes get rising numbers, and agree with the store."""
    async with living(world) as tasks:
        await asyncio.sleep(2.0)
        assert await world.end() == []
        assert [task.exception() for task in tasks if task.done()] == []


async def test_n4_heard_with_the_next_comparison(world: World) -> None:
    """N4: while no hint goes through, the next comparison lets a change be heard at the other instance."""
    sender, receiver = [await Client.connect(instance.port) for instance in world.instances]
    await sender.authenticate("s")
    await receiver.authenticate("u")
    for instance in world.instances:
        instance.hints.cut()
    sent = await sender.notify("u")
    async with asyncio.timeout(HEARD):
        assert (await receiver.expect("notification"))["notification"]["id"] == sent
    for client in (sender, receiver):
        await client.ws.close()


async def test_invariants_hold_under_any_faults(fragile_world: World, chaos_rounds: int) -> None:
    """Whatever fails, N1 to N4 hold in the end, and N3 all the time."""
    world, faults = fragile_world, list(FAULTS)
    async with living(world) as tasks:
        for number in range(chaos_rounds):
            if number % len(faults) == 0:
                world.dice.shuffle(faults)
            # The one wait that is for time: faults are events of nobody's making.
            await asyncio.sleep(world.dice.uniform(0.3, 1.5))
            await world.meet(faults[number % len(faults)])
            assert [task.exception() for task in tasks if task.done()] == []
        assert await world.end() == []
        sent = sum(len(editor.answered) for editor in world.editors)
        print(f"{sent} notifications were sent")
        assert sent > chaos_rounds
