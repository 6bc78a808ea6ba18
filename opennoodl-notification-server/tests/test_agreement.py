"""Every device agrees: what it was first shown and all it was told since is what a fresh look shows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from opennoodl_notification.inbox.store import StoreError
from opennoodl_notification.storage.json_file.store import JsonStore

from .desk import FULL, SILENT, Desk, Device
from .harness import Json
from .places import Backup, copied, place, restored
from .storage.json_file.test_store import written

pytestmark = pytest.mark.slow

USERS = ("ann", "bob")
ROOM = 5
"""The most notifications in one inbox."""
DAY = 86_400_000
"""Milliseconds."""
RESTORING = 10_007
"""Milliseconds."""
users = st.sampled_from(USERS)
positions = st.integers(0, 30)


class Agreement(RuleBasedStateMachine):
    """Two users with two devices each do what users do, in any order; some of it is handled together."""

    kind = "json"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.patch = pytest.MonkeyPatch()
        self.directory = TemporaryDirectory()
        self.desk = Desk(place(self.kind, Path(self.directory.name)), max_per_user=ROOM, ttl_days=1, sends_per_hour=0)
        self.desk.clock(self.patch)
        self.run(self.desk.open())
        self.devices = {user: [self.run(self.desk.join(user)) for _ in range(2)] for user in USERS}
        self.away: list[tuple[str, Device]] = []
        self.known: list[str] = ["nothing"]
        self.backup: Backup | None = None

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Wait for something."""
        return self.runner.run(what)

    def teardown(self) -> None:
        """End everything."""
        self.run(self.desk.app.store.close())
        self.runner.close()
        self.patch.undo()
        self.directory.cleanup()

    def pick(self, position: int) -> str:
        """Return the id of some notification there is or was."""
        return self.known[-1 - position % len(self.known)]

    def device(self, user: str, position: int) -> Device:
        """Return a device that is there."""
        devices = self.devices[user]
        if not devices:
            devices.append(self.run(self.desk.join(user)))
        return devices[position % len(devices)]

    @rule(sender=users, receivers=st.lists(users, min_size=1, max_size=2), key=st.none() | st.sampled_from("xyz"))
    def send(self, sender: str, receivers: list[str], key: str | None) -> None:
        """Send to one user or to both."""
        fields: Json = {
            "targetUserIds": receivers,
            "notificationType": "invite",
            "data": {"for": sorted(set(receivers))},
        }
        self.desk.ask(self.device(sender, 0), "send-notification", **fields, **({"idempotencyKey": key} if key else {}))

    @rule(
        user=users,
        positions=st.lists(positions, min_size=1, max_size=3),
        change=st.sampled_from(["mark-read", "mark-unread", "delete-notification", "revoke-notification"]),
        which=positions,
    )
    def change(self, user: str, positions: list[int], change: str, which: int) -> None:
        """Change or revoke notifications, of whoever they are."""
        ids = [self.pick(position) for position in positions]
        self.desk.ask(self.device(user, which), change, notificationIds=ids)

    @rule(user=users, change=st.sampled_from(["mark-all-read", "delete-all", "get-notifications"]), which=positions)
    def change_all(self, user: str, change: str, which: int) -> None:
        """Change everything, or look at it."""
        self.desk.ask(self.device(user, which), change, **({"limit": 200} if change == "get-notifications" else {}))

    @rule(milliseconds=st.sampled_from([0, 1, 1000, DAY // 2, DAY - 1, DAY, 2 * DAY, -1, -5000]))
    def pass_time(self, milliseconds: int) -> None:
        """Let the clock go on, or back."""
        self.handle()
        self.desk.now += milliseconds

    @rule()
    def clean(self) -> None:
        """Search for what has expired."""
        self.desk.app.cleanup.schedule()
        self.run(self.desk.app.worker.step())

    @rule(user=users, which=positions, hears=st.none() | st.integers(0, 3))
    def leave(self, user: str, which: int, hears: int | None = None) -> None:
        """Lose a connection, at once or in the middle of what comes next."""
        if self.devices[user]:
            device = self.devices[user].pop(which % len(self.devices[user]))
            if hears is not None:
                device.hears = hears
                self.handle()
            self.desk.leave(device)
            self.away.append((user, device))

    @rule(error=st.sampled_from([FULL, SILENT]), stored=st.booleans())
    def fail(self, error: StoreError, stored: bool) -> None:
        """Let the store fail for what was asked and for what is due: nobody is told of what may not be stored."""
        self.desk.failing, self.desk.stored = error, stored and error is SILENT
        self.desk.app.cleanup.schedule()
        self.run(self.desk.app.worker.step())
        self.handle()
        self.desk.failing = None

    @rule(which=positions)
    def return_(self, which: int) -> None:
        """Come back, and be told what was missed, or everything."""
        if self.away:
            user, device = self.away.pop(which % len(self.away))
            device.reconnect()
            device.take()
            since = device.sequence
            self.run(self.desk.join(user, since, device))
            answer = next(message for message in device.take() if message["type"] == "authenticated")
            if not answer["complete"]:
                assert since != answer["sequence"]
            self.devices[user].append(device)

    @rule()
    def handle(self) -> None:
        """Handle what was asked."""
        self.run(self.desk.work())
        for user, devices in self.devices.items():
            for device in devices.copy():
                for message in device.take():
                    if message["type"] == "notification" and message["notification"]["id"] not in self.known:
                        self.known.append(message["notification"]["id"])
                if device.closed is not None:
                    devices.remove(device)
                    self.away.append((user, device))

    @rule()
    def restart(self) -> None:
        """Stop the server and start it again."""
        self.stop()
        self.run(self.desk.open())

    @rule()
    def back_up(self) -> None:
        """Copy what is stored."""
        self.handle()
        if isinstance(self.desk.app.store, JsonStore):
            self.run(written(self.desk.app.store))  # else a file could go while it is copied
        self.backup = self.run(copied(self.desk.at))

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        """Start again with the copy in place of what is stored, which takes a while."""
        assert self.backup is not None
        self.stop()
        self.desk.now += RESTORING
        self.run(restored(self.desk.at, self.backup))
        self.run(self.desk.open())

    def stop(self) -> None:
        """Stop the server; devices are gone."""
        self.handle()
        for user in USERS:
            while self.devices[user]:
                self.leave(user, 0)
        self.run(self.desk.close())

    @invariant()
    def agree(self) -> None:
        """All devices of a user know what a fresh one is shown, once everything was handled."""
        if not hasattr(self, "desk") or self.desk.app.worker.queued:
            return
        self.handle()
        self.desk.app.cleanup.schedule()
        self.run(self.desk.app.worker.step())
        for user in USERS:
            fresh = self.run(self.desk.join(user))
            self.desk.leave(fresh)
            assert fresh.unread == sum(not one["read"] for one in fresh.inbox())
            for device in self.devices[user]:
                assert device.inbox() == fresh.inbox()
                assert device.unread == fresh.unread
                assert device.sequence <= fresh.sequence or not fresh.sequence  # the inbox is forgotten
        counts = self.run(self.desk.app.store.counts())
        assert self.desk.app.totals.notifications == counts.notifications
        assert self.desk.app.totals.size == self.run(self.desk.app.store.size())


class AgreementInSqlite(Agreement):
    """The same, with SQLite."""

    kind = "sqlite"


class AgreementInPostgresql(Agreement):
    """The same, with PostgreSQL."""

    kind = "postgresql"


TestJson = Agreement.TestCase
TestSqlite = AgreementInSqlite.TestCase
TestPostgresql = AgreementInPostgresql.TestCase
# Of the examples that the profile asks for. Databases take long; the profile `long` makes up for it.
EXAMPLES = settings().max_examples
TestJson.settings = settings(max_examples=EXAMPLES * 2 // 5, stateful_step_count=40, deadline=None)
TestSqlite.settings = settings(max_examples=max(1, EXAMPLES // 16), stateful_step_count=40, deadline=None)
TestPostgresql.settings = settings(max_examples=max(1, EXAMPLES // 16), stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("hears", range(5))
@pytest.mark.parametrize("change", ["mark-read", "mark-unread", "delete-notification", "revoke-notification", "send"])
async def test_cut_between_any_two_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, hears: int
) -> None:
    """A device whose connection is cut anywhere in what one message leads to is told the rest when it comes back."""
    desk = Desk(place("json", tmp_path), max_per_user=3)
    desk.clock(monkeypatch)
    await desk.open()
    sender, device = await desk.join("sender"), await desk.join("u")
    for _ in range(3):
        desk.ask(sender, "invite", targetUserId="u", data={})
    await desk.work()
    ids = list(device.notifications)
    if change == "mark-unread":
        desk.ask(device, "mark-all-read")
        await desk.work()
    device.hears = hears
    if change == "send":
        desk.ask(sender, "invite", targetUserId="u", data={})
    else:
        asking = sender if change == "revoke-notification" else device
        desk.ask(asking, change, notificationIds=ids)
    await desk.work()
    desk.leave(device)
    device.reconnect()
    await desk.join("u", device.sequence, device)
    fresh = await desk.join("u")
    assert (device.inbox(), device.unread) == (fresh.inbox(), fresh.unread)
    await desk.app.store.close()
