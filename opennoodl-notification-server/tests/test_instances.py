"""Two instances on one PostgreSQL: devices at one hear what is stored through the other, and bounds hold for both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from msgspec import Raw
from opennoodl_notification import cleanup, hints, instances
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.edge.service import Service
from opennoodl_notification.records import Inbox
from opennoodl_notification.server import NotificationServer
from opennoodl_notification.settings import Settings

from .conftest import Device, Serve
from .harness import TIMEOUT, Client, health, ids
from .places import place
from .pooler import pooler


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is."""
    return place("postgresql", tmp_path)


@pytest.fixture
def pooled(at: str) -> Iterator[str]:
    """Return the URL of a pgbouncer in front of that, with one connection more than there are instances."""
    with pooler(at, 3) as url:
        yield url


@pytest.fixture(autouse=True)
def _no_regular_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no comparison find what a test expects another way to find, however long the test takes."""
    monkeypatch.setattr(instances, "INTERVAL", 3600.0)


@pytest.fixture
async def both(serve: Serve, at: str) -> tuple[Service, Service]:
    """Start two instances that have heard of each other."""
    return await two(serve, at)


async def two(serve: Serve, at: str, **settings: object) -> tuple[Service, Service]:
    """Start two instances, and wait until each has heard of the other and made the comparison that follows from it."""
    first, second = [await serve(database_url=at, **settings) for _ in range(2)]
    for service in (first, second):
        await known(service, 1)
        await compared(service)
    return first, second


async def known(service: Service, number: int) -> None:
    """Wait until an instance knows so many others."""
    await until(lambda: service.app.instances.present == number)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that no message tells has happened."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def compared(service: Service) -> None:
    """Wait until an instance has compared the numbers of all users."""
    group = service.app.instances
    await until(lambda: not (group._to_compare or group._compare_again))


def deafen(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an instance hear nothing any more."""
    monkeypatch.setattr(service.app.instances, "hear", lambda _: None)


def gaps(service: Service) -> dict[str, int]:
    """Return how often devices did not know the number before a change."""
    return dict(service.app.follower.gaps)


NO_GAPS = {"batch": 0, "hint": 0, "poll": 0}


async def test_notification_reaches_another_instance_by_a_hint(both: tuple[Service, Service], device: Device) -> None:
    """A notification that comes through one instance is told at the other as it is here, from a hint alone."""
    sender, here, elsewhere = await device(both[0], "s"), await device(both[0], "u"), await device(both[1], "u")
    for size in (10, 3000):
        await sender.notify("u", data="x" * size)
        event = await here.expect("notification")
        assert await elsewhere.expect("notification") == event
    assert gaps(both[1]) == NO_GAPS


async def test_every_change_reaches_another_instance_in_order(both: tuple[Service, Service], device: Device) -> None:
    """Devices at another instance get the changes of their user in the same order."""
    sender, here, elsewhere = await device(both[0], "s"), await device(both[0], "u"), await device(both[1], "u")
    sent = [await sender.notify("u") for _ in range(4)]
    for change, fields in (
        ("mark-read", {"notificationId": sent[0]}),
        ("mark-unread", {"notificationId": sent[0]}),
        ("delete-notification", {"notificationIds": sent[:2]}),
        ("mark-all-read", {}),
        ("delete-all", {}),
    ):
        await here.send(change, **fields)
    told = [await here.get() for _ in range(10)]
    await sender.ask("revoke-notification", notificationId=await sender.notify("u"))
    told += [await here.get() for _ in range(2)]
    assert [await elsewhere.get() for _ in range(12)] == told
    assert gaps(both[1]) == NO_GAPS


async def test_large_notification_is_read_from_the_database(serve: Serve, at: str, device: Device) -> None:
    """A notification that is too large for a hint is read from the database, as missed."""
    first, second = await two(serve, at, max_data_size=0)
    sender, elsewhere = await device(first, "s"), await device(second, "u")
    await sender.notify("u", data="x" * 8000)
    event = await elsewhere.expect("notification")
    assert (event["notification"]["data"], event["replayed"]) == ("x" * 8000, True)
    assert gaps(second) == {**NO_GAPS, "hint": 1}


async def test_answer_after_what_was_missed(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that changes something is told what it has missed before the answer, so its numbers never go down."""
    deafen(both[1], monkeypatch)
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    first, second = await sender.notify("u"), await sender.notify("u")
    await elsewhere.send("mark-read", notificationId=second, requestId=1)
    told = [await elsewhere.get() for _ in range(3)]
    assert [message["notification"]["id"] for message in told] == [first, second, second]
    assert [message.get("replayed", False) for message in told] == [True, True, False]
    assert told[0]["sequence"] < told[1]["sequence"] < told[2]["sequence"]
    assert told[2]["requestId"] == 1
    assert gaps(both[1]) == {**NO_GAPS, "batch": 1}


async def test_page_after_what_was_missed(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that reads its inbox is told what it has missed before the page."""
    deafen(both[1], monkeypatch)
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    sent = await sender.notify("u")
    await elsewhere.send("get-notifications")
    event = await elsewhere.expect("notification")
    page = await elsewhere.expect("notifications")
    assert (event["notification"]["id"], ids(page)) == (sent, [sent])
    assert event["sequence"] == page["sequence"]


async def test_second_device_updates_the_first(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a user's second device comes to an instance, the first one there is told what it has missed."""
    deafen(both[1], monkeypatch)
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    sent = await sender.notify("u")
    other = await device(both[1])
    assert ids(await other.authenticate("u")) == [sent]
    assert (await elsewhere.expect("notification"))["notification"]["id"] == sent


async def test_lost_hint_leads_to_a_comparison(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint whose predecessor is missing lets all numbers be compared, and what was missed be told."""
    sender, elsewhere, another = await device(both[0], "s"), await device(both[1], "u"), await device(both[1], "v")
    await compared(both[1])
    lost: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(both[1].app.instances, "hear", lost.append)
        sent = await sender.notify("u")
        await until(lambda: any(sent in hint for hint in lost))
    await sender.notify("v")
    await another.expect("notification")
    assert (await elsewhere.expect("notification"))["notification"]["id"] == sent
    assert gaps(both[1]) == {**NO_GAPS, "poll": 1}


async def test_no_hints_at_all(serve: Serve, at: str, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hints, devices are told by the regular comparison with the database."""
    monkeypatch.setattr(instances, "INTERVAL", 0.05)
    first, second = [await serve(database_url=at) for _ in range(2)]
    deafen(second, monkeypatch)
    sender, elsewhere = await device(first, "s"), await device(second, "u")
    sent = [await sender.notify("u") for _ in range(3)]
    assert [(await elsewhere.expect("notification"))["notification"]["id"] for _ in sent] == sent


async def test_hints_pass_by_a_pooler(serve: Serve, at: str, pooled: str, device: Device) -> None:
    """With a direct URL for LISTEN, instances whose other queries go through a pooler exchange hints."""
    first, second = await two(serve, pooled, database_listen_url=at)
    sender, elsewhere = await device(first, "s"), await device(second, "u")
    sent = await sender.notify("u")
    assert (await elsewhere.expect("notification"))["notification"]["id"] == sent
    assert gaps(second) == NO_GAPS


async def test_pooler_without_a_direct_url(
    serve: Serve, pooled: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a direct URL, instances behind a pooler log a warning, and tell devices after the next comparison."""
    monkeypatch.setattr(instances, "INTERVAL", 0.05)
    with structlog.testing.capture_logs() as logged:
        first, second = [await serve(database_url=pooled) for _ in range(2)]
    assert sum("DATABASE_URL leads to a pooler" in entry["event"] for entry in logged) == 2
    sender, elsewhere = await device(first, "s"), await device(second, "u")
    sent = await sender.notify("u")
    assert (await elsewhere.expect("notification"))["notification"]["id"] == sent


async def test_direct_url_that_leads_to_a_pooler(serve: Serve, at: str, pooled: str) -> None:
    """A DATABASE_LISTEN_URL of a pooler stops the start."""
    with pytest.raises(StartError, match="DATABASE_LISTEN_URL leads to a pooler"):
        await serve(database_url=at, database_listen_url=pooled)


async def test_device_that_missed_too_much_is_closed(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that has missed more than is remembered is closed, and gets its whole list when it comes again."""
    monkeypatch.setattr("opennoodl_notification.records.HISTORY", 3)
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    await sender.notify("u")
    number = (await elsewhere.expect("notification"))["sequence"]
    deafen(both[1], monkeypatch)
    for _ in range(5):
        await sender.notify("u")
    both[1].app.instances.compare()
    assert await elsewhere.closed() == 1013
    again = await device(both[1])
    assert (await again.resume("u", number))["complete"] is False


async def test_recreated_inbox_continues_at_another_instance(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inbox that is forgotten and made anew goes on for a device at another instance."""
    monkeypatch.setattr("opennoodl_notification.records.Inbox._keep", _forget_at_once)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.05)
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    sent = await sender.notify("u")
    await elsewhere.expect("notification")  # else the inbox may be forgotten first, and the device told of neither
    await sender.ask("revoke-notification", notificationId=sent)
    await elsewhere.expect("notification-deleted")
    both[0].app.cleanup.schedule()
    await until(lambda: not both[1].app.devices.sequences["u"])
    await sender.notify("u")
    await elsewhere.expect("notification")


def _forget_at_once(inbox: Inbox, _end: int) -> None:
    """Let an empty inbox be forgotten at once."""
    inbox.due = "0"


async def test_devices_of_all_instances_share_a_limit(serve: Serve, at: str, device: Device) -> None:
    """The devices of a user at other instances count for `MAX_CONNECTIONS_PER_USER`, and those that go do not."""
    first, second = await two(serve, at, max_connections_per_user=2)
    here, elsewhere = await device(first, "u"), await device(second, "u")
    await counted(first, "u", 1)
    await counted(second, "u", 1)
    for service in (first, second):
        assert await (await device(service)).refused("authenticate", userId="u") == "too-many-connections"
    await here.ws.close()
    await counted(second, "u", 0)
    await device(second, "u")
    await counted(first, "u", 2)
    await elsewhere.ws.close()
    await counted(first, "u", 1)


async def counted(service: Service, user: str, number: int) -> None:
    """Wait until an instance knows that a user has so many devices elsewhere."""
    await until(lambda: service.app.instances.devices_elsewhere(user) == number)


async def test_devices_of_a_later_instance(serve: Serve, at: str, device: Device) -> None:
    """An instance that starts later learns which devices there are, and forgets those of one that stops."""
    first = await serve(database_url=at)
    await device(first, "u")
    second = await serve(database_url=at)
    await counted(second, "u", 1)
    await first.stop()
    await counted(second, "u", 0)


async def test_devices_of_a_silent_instance(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devices of an instance that says nothing for long do not count."""
    await device(both[0], "u")
    await counted(both[1], "u", 1)
    monkeypatch.setattr(instances, "ABSENT", -1.0)
    assert both[1].app.instances.devices_elsewhere("u") == 0
    assert both[1].app.instances.present == 0


async def test_sends_of_all_instances_share_a_quota(serve: Serve, at: str, device: Device) -> None:
    """Sends through one instance count for the user's quota at the other."""
    first, second = await two(serve, at, sends_per_hour=3)
    one, other, witness = await device(first, "s"), await device(second, "s"), await device(second, "u")
    for _ in range(2):
        await one.notify("u")
        await witness.expect("notification")
    await other.notify("u")
    assert await other.refused("invite", targetUserId="u", data={}) == "rate-limited"


async def test_notification_count_agrees_at_all_instances(both: tuple[Service, Service], device: Device) -> None:
    """`notificationCount` is that of the database at every instance, soon after a change through any."""
    sender = await device(both[0], "s")
    sent = [await sender.notify("u") for _ in range(3)]
    await sender.ask("revoke-notification", notificationId=sent[0])
    async with asyncio.timeout(TIMEOUT):
        while (await health(both[1].port))[1]["notificationCount"] != 2:
            pass


async def test_last_changes_before_a_stop(both: tuple[Service, Service], device: Device) -> None:
    """Changes that an instance stores while it stops are sent to the other instances."""
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    await sender.send("send-notification", targetUserId="u", notificationType="invite", data={})
    await sender.heard()
    await both[0].stop()
    await elsewhere.expect("notification")
    assert gaps(both[1]) == NO_GAPS


async def test_devices_that_know_nothing_of_it(both: tuple[Service, Service], device: Device) -> None:
    """A hint about a user without a device here costs no query."""
    sender, witness = await device(both[0], "s"), await device(both[1], "w")
    await sender.notify("u", data="x" * 9000)
    await sender.notify("w")
    await witness.expect("notification")
    assert gaps(both[1]) == NO_GAPS


async def metrics(service: Service) -> dict[str, float]:
    """Return the numbers of a server's metrics that have one."""
    samples = [sample for family in service.app.metric_families() for sample in family.samples]
    return {sample.name + "".join(sample.labels.values()): sample.value for sample in samples}


async def test_metrics_show_instances_and_hints(both: tuple[Service, Service], device: Device) -> None:
    """Metrics say how many instances there are, how long hints take, and how many there were."""
    sender, elsewhere = await device(both[0], "s"), await device(both[1], "u")
    await sender.notify("u")
    await elsewhere.expect("notification")
    first, second = await metrics(both[0]), await metrics(both[1])
    assert (first["opennoodl_notification_instances"], first["opennoodl_notification_listening"]) == (1, 1)
    assert first["opennoodl_notification_hint_seconds_count"] > 0
    assert second["opennoodl_notification_hints_totalheard"] > 0
    assert second["opennoodl_notification_hints_totallost"] == 0


async def test_slow_device_is_closed_alone(serve: Serve, at: str) -> None:
    """A device that reads nothing is closed with 1013, also for what comes from elsewhere; others hear everything."""
    bounds = {"sends_per_hour": 0, "send_bytes_per_hour": 0, "max_per_user": 0, "slow_client_buffer": 20_000}
    first, second = await two(serve, at, **bounds)
    sender, slow = [await Client.connect(service.port) for service in (first, second)]
    await sender.authenticate("s")
    await slow.authenticate("u")
    slow.ws.transport.pause_reading()
    # What the kernel holds is out of the server's sight: let it be little.
    (connection,) = second.app.devices.of("u")
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    quick = await Client.connect(second.port)
    await quick.authenticate("u")
    for _ in range(3000):
        await sender.notify("u", data="x" * 7000)
        await quick.expect("notification")
        if len(second.app.devices.of("u")) == 1:
            break
    assert len(second.app.devices.of("u")) == 1
    slow.ws.transport.resume_reading()
    for client in (sender, slow, quick):
        await client.ws.close()


class Silent:
    """A channel that carries nothing."""

    def wake(self) -> None:
        """Do nothing."""


def alone() -> instances.Instances:
    """Return an instance that has nobody to tell, and nothing to store."""
    group: Any = NotificationServer(Settings(db_file="unused.json")).instances
    group.use(Silent())
    return group


def change(number: int) -> hints.Change:
    """Return a change of about 5,000 bytes."""
    return hints.Change("u", number, number + 1, (Raw(b'"%s"' % (b"x" * 5000)),))


def test_hints_that_wait_are_bounded() -> None:
    """Hints that cannot be sent are dropped when they are too many, and the next number shows that some are missing."""
    group = alone()
    (text,) = group.take()
    first = hints.unpack(text).number
    for number in range(2000):
        group._enqueue([change(number)])
    assert group.lost == 1
    assert group._outgoing_size < instances.MOST_WAITING
    assert hints.unpack(group.take()[0]).number > first + 1


def test_changes_that_wait_are_bounded() -> None:
    """Changes of others that the worker does not take are dropped when they are too many; then numbers are compared."""
    group = alone()
    for number in range(2000):
        group.hear(next(hints.pack("other", number, [change(number)])))
    assert group.lost == 1
    assert group._changes_size < instances.MOST_WAITING
    assert group._compare_again


async def test_many_users_are_compared_in_parts(
    both: tuple[Service, Service], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More users than are compared at once are compared one part after the other."""
    monkeypatch.setattr(instances, "COMPARED", 2)
    deafen(both[1], monkeypatch)
    sender = await device(both[0], "s")
    clients = [await device(both[1], f"u{number}") for number in range(5)]
    for number in range(5):
        await sender.notify(f"u{number}")
    both[1].app.instances.compare()
    for client in clients:
        await client.expect("notification")
    assert gaps(both[1]) == {**NO_GAPS, "poll": 5}


def test_unreadable_hint_leads_to_a_comparison() -> None:
    """A hint that cannot be read lets the numbers be compared."""
    group = alone()
    group._compare_again = False
    group.hear('["other",0,["later"]]')
    assert group._compare_again
    assert group.lost == 1
