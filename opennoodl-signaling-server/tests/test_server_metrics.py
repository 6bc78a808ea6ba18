"""The metrics of joins, invites and absent peers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.rooms.rooms import REPLACED

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import TEXT
from .test_server_resume import X, both, cut


def read(server: Service, name: str) -> Any:
    """Return a metric: its number, or its numbers over 0 by the value of its label."""
    text = server.app.metrics.text().decode()
    found = re.findall(rf'^opennoodl_(?:signaling_)?{name}(?:{{\w+="([^"]+)"}})? (\S+)$', text, flags=re.MULTILINE)
    numbers = {label: float(number) for label, number in found}
    return numbers.get("", {label: number for label, number in numbers.items() if number})


async def test_joins_are_counted_by_outcome(start: StartServer, enter: Enter) -> None:
    """Joins are counted by how they ended."""
    server = await start(max_room_size=2)
    _, x, token = await both(server, enter)
    third = await enter(server)
    await third.refused("join", room="r", peerId="t", userId="T")
    await third.refused("join", room="r", peerId="x", userId="T")
    await third.refused("join", room="r", peerId="o", userId="user of o")
    await third.refused("join", room="s", peerId="x", userId="T", metadata="x" * 20_000)
    await cut(x)
    x = await enter(server)
    await x.join(**X, resumeToken=token)
    await cut(x)
    await (await enter(server)).join(**X)
    assert read(server, "joins_total") == {
        "joined": 2,
        "room-full": 1,
        "peer-id-taken": 2,
        "too-large": 1,
        "resumed": 1,
        "replaced": 1,
    }
    assert read(server, "join_seconds_count") == 4


async def test_abandoned_join_is_counted(
    server: Service, enter: Enter, enter_raw: EnterRaw, contest_timeout: Callable[[float], None]
) -> None:
    """A join that was taken back while the holder of its peer id was asked is counted as such."""
    contest_timeout(0.05)
    holder = await enter_raw(server, {"type": "join", "room": "r", "peerId": "x", "userId": "X"})
    await holder.frame_of(TEXT)
    first, second = await enter(server), await enter(server)
    await first.send("join", room="r", peerId="x", userId="X")
    await first.send("leave")
    await second.join(**X)
    assert read(server, "joins_total") == {"joined": 1, "abandoned": 1, "replaced": 1}


async def test_time_of_joins_is_counted(
    server: Service, enter: Enter, enter_raw: EnterRaw, contest_timeout: Callable[[float], None]
) -> None:
    """The time of each join is counted; one that has to wait for a ping takes at least that long."""
    contest_timeout(0.3)
    holder = await enter_raw(server, {"type": "join", "room": "r", "peerId": "x", "userId": "X"})
    await holder.frame_of(TEXT)
    await (await enter(server)).join(**X)
    buckets = read(server, "join_seconds_bucket")
    assert buckets["0.25"] < buckets["+Inf"] == 2


async def test_invites_are_counted_by_outcome(start: StartServer, enter: Enter) -> None:
    """Invites are counted by whether anybody got them."""
    server = await start(invites_per_hour=2)
    a = await enter(server)
    await a.ask("register", userId="A")
    await a.send("invite", targetUserId="A", roomId="r")
    await a.expect("invite")
    await a.expect("invite-sent")
    await a.ask("invite", targetUserId="B", roomId="r")
    await a.refused("invite", targetUserId="B", roomId="r")
    assert read(server, "invites_total") == {"delivered": 1, "offline": 1, "rate-limited": 1}


async def test_absences_are_counted_by_outcome(start: StartServer, enter: Enter) -> None:
    """Metrics show absent peers with their waiting signals, and then the outcome of each absence."""
    server = await start(resume_grace=60_000)
    other, x, token = await both(server, enter)
    await cut(x)
    await other.send("signal", to="x", signal="hello")
    await other.quiet()
    assert (read(server, "peers"), read(server, "absent_peers")) == (2, 1)
    assert read(server, "waiting_bytes") > len("hello")
    await (await enter(server)).join(**X, resumeToken=token)
    assert (read(server, "peers"), read(server, "absent_peers")) == (2, 0)
    assert read(server, "waiting_bytes") == 0
    assert read(server, "absences_total") == {"resumed": 1}


async def test_errors_are_counted_by_code(server: Service, enter: Enter) -> None:
    """Errors are counted by code, also those that answer nothing."""
    other, x, _ = await both(server, enter)
    await x.refused("session")
    await x.refused("nonsense")
    await cut(x)
    await other.send("signal", to="x", signal=1)
    await other.quiet()
    await (await enter(server)).join(**X)
    await other.expect("error")
    counted = {code: number for code, number in read(server, "errors_total").items() if number}
    assert counted == {"not-host": 1, "unknown-type": 1, "peer-not-found": 1}


async def test_relayed_messages_are_counted(server: Service, enter: Enter) -> None:
    """Signals, publishes and invites are counted when they are passed on; what waits is not yet."""
    other, x, token = await both(server, enter)
    await other.send("signal", to="x", signal=1)
    await x.expect("signal")
    await cut(x)
    await other.send("signal", to="x", signal=2)
    await other.quiet()
    assert read(server, "relayed_total") == 1
    again = await enter(server)
    await again.join(**X, resumeToken=token)
    await again.expect("signal")
    assert read(server, "relayed_total") == 2


async def test_replaced_is_counted_by_its_code(server: Service) -> None:
    """The close code that only this server sends is counted under its number."""
    server.app.metrics.closed(REPLACED)
    assert 'opennoodl_closes_total{code="4409"} 1.0' in server.app.metrics.text().decode()
