"""The server killed at any moment: what anybody was answered or shown is there when it starts again."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from .desk import Device
from .harness import Client, Json
from .places import place
from .process import Process

USERS = ("ann", "bob", "cem")
DEVICES = 2
"""Of each user."""
SHARES = {"json": 1.0, "sqlite": 0.25, "postgresql": 0.25}
"""Of the rounds: databases are killed by others, too, and only our use of them is ours to test."""


class Member:
    """One device of a user: it sends and changes what it can, and keeps what it was told over all lives of a server.

    Attributes:
        mirror: the inbox as the device knows it.
        answered: ids of what it has sent, as far as it was answered.
        unanswered: what it has sent under a key and does not know the fate of.
    """

    def __init__(self, user: str, number: int, dice: random.Random, world: World) -> None:
        self.user = user
        self.mirror = Device()
        self.answered: set[str] = set()
        self.unanswered: Json | None = None
        self._name = f"{user} {number}"
        self._dice = dice
        self._world = world
        self._line_break = dice.choice(["\n", "\r\n", "\r"])
        self._sent = 0
        self._client: Client | None = None

    async def connect(self, port: int) -> None:
        """Come back, and be told what was missed; what was sent without an answer is sent again."""
        self._client = await Client.connect(port)
        answer = await self._client.resume(self.user, self.mirror.sequence)
        if answer["complete"]:
            await self.settle()
        else:
            assert self.mirror.sequence == 0, "a number that was told is not known any more"
            await self._hear()
        if self.unanswered is not None:
            await self._until_answered(self.unanswered)

    async def live(self) -> None:
        """Send and change until the connection ends."""
        with suppress(ConnectionClosed):
            while True:
                await self._act()

    async def settle(self) -> None:
        """Hear what has come so far."""
        assert self._client is not None
        await self._client.send("get-notifications", limit=1)
        while (message := await self._client.get())["type"] != "notifications":
            self._take(message)

    async def leave(self) -> None:
        """Cut the connection."""
        assert self._client is not None
        self._client.ws.transport.abort()
        await self._client.ws.wait_closed()

    async def _act(self) -> None:
        assert self._client is not None
        known = list(self.mirror.notifications)
        change = self._dice.choice(["send", "send", "send", "mark-read", "mark-unread", "delete-notification", "all"])
        if change == "send":
            self._sent += 1
            token = f"{self._name} {self._sent}"
            data = {"token": token}
            fields = {"targetUserId": self._dice.choice(USERS), "notificationType": "invite", "data": data}
            self.unanswered = {"type": "send-notification", **fields, "idempotencyKey": token}
            await self._until_answered(self.unanswered)
        elif change == "all":
            await self._client.send("mark-all-read")
        elif known:
            id_ = self._dice.choice(known)
            if change == "delete-notification":
                self._world.deleted.add(id_)
            await self._client.send(change, notificationId=id_)
            while (await self._hear())["type"] not in ("notification-updated", "notification-deleted", "error"):
                pass

    async def _until_answered(self, message: Json) -> None:
        assert self._client is not None
        # Over several lines, as some programs write it.
        await self._client.text(json.dumps(message, indent=1).replace("\n", self._line_break))
        while self.unanswered is not None:
            await self._hear()

    async def _hear(self) -> Json:
        assert self._client is not None
        message = await self._client.get()
        self._take(message)
        return message

    def _take(self, message: Json) -> None:
        self.mirror.apply(message)
        if message["type"] == "notification-sent":
            self.answered.add(message["notificationId"])
            self.unanswered = None


class World:
    """All members, and what they know of each other."""

    def __init__(self, dice: random.Random) -> None:
        self.deleted: set[str] = set()
        self.members = [Member(user, number, dice, self) for user in USERS for number in range(DEVICES)]

    async def check(self, port: int) -> None:
        """Compare what every device knows with what is there, and see that all that was sent is there once."""
        for member in self.members:
            await member.settle()
        tokens: list[str] = []
        there: set[str] = set()
        for user in USERS:
            inbox = await everything(port, user)
            for member in self.members:
                if member.user == user:
                    assert member.mirror.inbox() == inbox
            tokens += [one["data"]["token"] for one in inbox]
            there |= {one["id"] for one in inbox}
        assert len(tokens) == len(set(tokens)), "something that was sent again is there twice"
        answered = {id_ for member in self.members for id_ in member.answered}
        assert answered - self.deleted <= there


async def everything(port: int, user: str) -> list[Json]:
    """Return the whole inbox of a user, as a new device sees it."""
    client = await Client.connect(port)
    page = await client.authenticate(user)
    inbox: list[Json] = page["notifications"]
    while page["hasMore"]:
        page = await client.inbox(limit=200, before=inbox[-1]["createdAt"])
        inbox += page["notifications"]
    await client.ws.close()
    return inbox


@pytest.fixture(params=SHARES)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty store of each kind is."""
    return place(request.param, tmp_path)


async def test_killed_server_loses_and_doubles_nothing(
    request: pytest.FixtureRequest, at: str, dice: random.Random, crash_rounds: int
) -> None:
    """However often it is killed: nothing answered is lost, nothing undone, nothing sent twice, and devices agree."""
    world = World(dice)
    rounds = max(1, round(crash_rounds * SHARES[request.node.callspec.params["at"]]))
    for number in range(rounds + 1):
        process = await Process.start(at, small_journal=number % 2 == 1)
        try:
            for member in world.members:
                await member.connect(process.port)
            await world.check(process.port)
            if number < rounds:
                async with asyncio.TaskGroup() as tasks:
                    for member in world.members:
                        tasks.create_task(member.live())
                    # The one wait that is for time: a kill is an event of nobody's making.
                    await asyncio.sleep(dice.uniform(0.02, 0.25))
                    process.child.kill()
            for member in world.members:
                await member.leave()
        finally:
            print((await process.kill())[-3000:])
    assert sum(len(member.answered) for member in world.members) > rounds
