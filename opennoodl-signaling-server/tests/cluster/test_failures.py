"""The cost of each failure: Redis that is away, that restarts empty, an instance that was swept, a gap in a stream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from opennoodl_signaling.cluster import membership, redis_connection
from opennoodl_signaling.cluster.redis_connection import Connector
from opennoodl_signaling.edge.errors import StartError
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.edge.settings import SettingError
from opennoodl_signaling.server import create
from opennoodl_signaling.settings import Settings

from ..conftest import Enter, StartServer
from ..edge.harness import TIMEOUT, request
from ..editor import Editor, news
from ..test_server_resume import X
from ..test_server_session import look
from .conftest import Instances
from .proxy import Proxy
from .redis_server import RedisServer
from .waiting import settle, until


@pytest.fixture
async def restartable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a Redis server that the test may stop."""
    monkeypatch.setattr(membership, "FILL", 0.3)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.free()


async def ready(server: Service) -> bool:
    """Return whether new clients should come."""
    return (await request(server.port, "GET /ready")).status == 200


async def two(
    start: StartServer, enter: Enter, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Service], Editor, Editor]:
    """Return two instances that are ready, and a peer at each."""
    servers = [await start(redis_url=redis_url) for _ in range(2)]
    for server in servers:
        await until(lambda server=server: ready(server))
    monkeypatch.setattr(membership, "FILL", 3.0)  # an instance that comes two thirds of this later closes its clients
    a, b = await enter(servers[0]), await enter(servers[1])
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    return servers, a, b


async def entered_again(servers: list[Service]) -> None:
    """Wait until each instance has connected to Redis once more, and is ready."""
    for server in servers:
        await until(lambda server=server: server.app.membership.link.connects == 2)
        await until(lambda server=server: ready(server))


async def test_outage_of_redis_closes_nobody(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away, clients stay, what they ask gets `unavailable`, and only `/ready` says 503."""
    servers, a, _ = await two(start, enter, restartable.url, monkeypatch)
    restartable.stop()
    await until(lambda: not servers[0].app.membership.link.up)
    assert await a.refused("signal", to="b", signal=1, requestId=1) == ("unavailable", 1)
    assert await a.refused("join", room="r2", peerId="a", userId="A", requestId=2) == ("unavailable", 2)
    assert await a.refused("invite", targetUserId="B", roomId="r", requestId=3) == ("unavailable", 3)
    assert servers[0].app.refusals.counts["unavailable"] == 3
    assert (await a.ask("ping"))["type"] == "pong"
    health = await request(servers[0].port, "GET /health")
    assert (health.status, msgspec.json.decode(health.body)["status"]) == (200, "degraded")
    assert not await ready(servers[0])
    assert (await look(servers[0], "r")).status == 503
    y_webrtc = await enter(servers[1])
    await y_webrtc.send("subscribe", topics=["t"])
    assert await y_webrtc.closed() == 1013


async def test_empty_redis_is_filled_again(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Redis has restarted empty, clients are where they were, newcomers wait, and sizes are exact."""
    servers, a, b = await two(start, enter, restartable.url, monkeypatch)
    await a.subscribe("t")
    restartable.stop()
    restartable.start()
    for server in servers:
        await until(lambda server=server: server.app.membership.link.up and server.app.membership.filling)
    newcomer = await enter(servers[0])
    assert await newcomer.refused("join", room="r", peerId="c", userId="C") == "unavailable"
    for server in servers:
        await until(lambda server=server: ready(server))
    await a.send("signal", to="b", signal="hello")
    assert await b.expect("signal") == {"from": "a", "signal": "hello"}
    assert {peer["peerId"] for peer in (await newcomer.join("r", "c"))["peers"]} == {"a", "b"}
    assert await a.expect("peer-joined") == await b.expect("peer-joined") == news("c")
    await newcomer.send("publish", topic="t", data=1)
    assert (await a.expect("publish"))["clients"] == 1
    await newcomer.send("invite", targetUserId="user of b", roomId="r")
    await b.expect("invite")


async def test_first_instance_takes_newcomers_at_once(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that was empty since it started has lost nothing after some time; before that it may have."""
    monkeypatch.setattr(membership, "FILL", 60.0)
    server = await start(redis_url=restartable.url)
    newcomer = await enter(server)
    assert await newcomer.refused("join", room="r", peerId="a", userId="A") == "unavailable"
    await server.stop()
    restartable.empty()
    monkeypatch.setattr(membership, "FILL", 1.0)
    await until(lambda: restartable.uptime() >= 2)
    server = await start(redis_url=restartable.url)
    assert await ready(server)
    await (await enter(server)).join("r", "a")


async def test_first_instance_does_not_share_rooms_with_one_that_is_cut_off(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance with clients that finds another one in an empty Redis too late closes them: sizes are exact."""
    monkeypatch.setattr(membership, "FILL", 1.0)
    proxy = Proxy(restartable.port)
    await proxy.start()
    former = await start(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    await until(lambda: ready(former))
    a = await enter(former)
    await a.join("r", "a")
    proxy.cut()
    restartable.stop()
    restartable.start()
    await until(lambda: restartable.uptime() >= 2)
    first = await start(redis_url=restartable.url)
    assert (await (await enter(first)).join("r", "b"))["peers"] == []
    proxy.mend()
    assert await a.closed() == 1013
    await former.stop()
    await proxy.stop()


async def test_clients_that_are_entered_again_too_late_are_closed(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow instance does not enter its clients beside newcomers, who are not told of them."""
    servers, a, b = await two(start, enter, restartable.url, monkeypatch)
    recovery = servers[1].app._recovery
    may_enter, has_entered = asyncio.Event(), asyncio.Event()
    enter_again, compare = recovery._enter_again, recovery.compare

    async def enter_late(name: str) -> None:
        await may_enter.wait()
        await enter_again(name)
        has_entered.set()

    async def compare_late() -> bool:
        await has_entered.wait()
        return bool(await compare())

    monkeypatch.setattr(recovery, "_enter_again", enter_late)
    monkeypatch.setattr(recovery, "compare", compare_late)
    restartable.stop()
    await until(lambda: not servers[0].app.membership.link.up)
    await a.socket.close()
    restartable.start()
    await entered_again(servers)
    again = await enter(servers[0])
    assert (await again.join("r", "a"))["peers"] == []
    may_enter.set()
    assert await b.closed() == 1013


async def test_no_newcomer_is_told_of_before_rooms_are_compared(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow instance closes a client that may not know who has left, in place of telling it of a newcomer."""
    servers, a, _ = await two(start, enter, restartable.url, monkeypatch)
    x = await enter(servers[1])
    token = (await x.join(**X, resume=True, received=0))["resumeToken"]
    await a.expect("peer-joined")
    may_compare = asyncio.Event()
    compare = servers[1].app._recovery.compare

    async def compare_late() -> bool:
        await may_compare.wait()
        return bool(await compare())

    monkeypatch.setattr(servers[1].app._recovery, "compare", compare_late)
    restartable.stop()
    await until(lambda: not servers[0].app.membership.link.up)
    await a.socket.close()
    restartable.start()
    await entered_again(servers)
    newcomer = await enter(servers[0])
    assert {peer["peerId"] for peer in (await newcomer.join("r", "c"))["peers"]} == {"b", "x"}
    assert await x.closed() == 1013
    assert {(await newcomer.expect("peer-left"))["peerId"] for _ in "bx"} == {"b", "x"}
    may_compare.set()
    answer = await (await enter(servers[1])).join(**X, resumeToken=token, received=0)
    assert ("resumed" in answer, [peer["peerId"] for peer in answer["peers"]]) == (False, ["c"])


async def test_no_room_is_changed_while_redis_is_filled(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While clients are entered again, nobody joins: rooms may lack peers, also the room that a client is in."""
    servers, a, _ = await two(start, enter, restartable.url, monkeypatch)
    monkeypatch.setattr(membership, "FILL", 60.0)
    restartable.stop()
    restartable.start()
    await until(lambda: servers[0].app.membership.link.connects == 2)
    for room in ("r", "r2"):
        assert await a.refused("join", room=room, peerId="a", userId="A") == "unavailable"


async def test_resume_after_redis_was_empty(
    restartable: RedisServer, start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is as good as before after Redis has restarted empty."""
    servers, a, _ = await two(start, enter, restartable.url, monkeypatch)
    x = await enter(servers[1])
    token = (await x.join(**X, resume=True, received=0))["resumeToken"]
    await a.expect("peer-joined")
    await a.send("signal", to="x", signal=0)
    await x.expect("signal")
    restartable.stop()
    restartable.start()
    await entered_again(servers)
    await a.send("signal", to="x", signal=1)
    await x.expect("signal")
    again = await enter(servers[0])
    assert (await again.join(**X, resumeToken=token, received=1))["resumed"] is True
    assert (await again.expect("signal"))["signal"] == 1


async def test_fenced_instance_closes_its_clients(instances: Instances, enter: Enter, redis: RedisServer) -> None:
    """An instance whose places were given up closes its clients with 1013, and goes on under another id."""
    one, two = await instances()
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    app: Any = two.app
    former = app.membership.instance
    client = redis.client()
    pipeline = client.pipeline()
    pipeline.zrem("opennoodl:signaling:instances", former)
    pipeline.sadd("opennoodl:signaling:dead", former)
    pipeline.execute()
    client.close()
    assert await b.closed() == 1013
    assert await a.expect("peer-left") == {"peerId": "b"}
    again = await enter(two)
    await until(lambda: ready(two))
    await again.join("r", "b")
    await a.expect("peer-joined")
    assert app.membership.instance != former


async def test_reader_of_the_stream_survives_that_its_connection_is_closed(
    instances: Instances, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is read on if an instance connects again just when a command is sent."""
    (server,) = await instances(1)
    app: Any = server.app
    link = app.membership.link
    await until(lambda: link.stream._connection is not None)
    reader = link.stream._connection
    send = reader._send_packed_command

    async def send_late(command: Any) -> None:
        link.reconnect()
        await until(lambda: reader._writer is None)
        await send(command)

    monkeypatch.setattr(reader, "_send_packed_command", send_late)
    await until(lambda: link.connects == 2)
    await (await enter(server)).join("r", "a")


async def test_foreign_record_does_not_end_the_lease(
    instances: Instances, enter: Enter, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that another program has written costs what needs it, and not the lease of the instance."""
    monkeypatch.setattr(membership, "LEASE", 1.0)
    (server,) = await instances(1)
    app: Any = server.app
    client = redis.client()
    client.hset("opennoodl:signaling:room:x", mapping={"v": "1", "d": "foreign"})
    client.zadd("opennoodl:signaling:away", {"1:x:a": 0})
    former = app.membership.instance
    await until(lambda: app.membership.counts[0] == 1)
    await until(lambda: monotonic() - app.membership._renewed > 0.4)
    await until(lambda: monotonic() - app.membership._renewed < 0.4)
    assert app.membership.instance == former
    await (await enter(server)).join("r", "a")
    client.close()


async def test_hole_in_the_stream_closes_clients(instances: Instances, enter: Enter, redis: RedisServer) -> None:
    """An instance that finds that entries of its stream are missing closes its clients with 1013."""
    one, two = await instances()
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    app: Any = two.app
    client = redis.client()
    client.incr(f"opennoodl:signaling:number:{app.membership.instance}")
    client.close()
    await a.send("signal", to="b", signal=1)
    assert await b.closed() == 1013
    told = [await a.receive() for _ in range(2)]
    assert {message.get("code", message["type"]) for message in told} == {"peer-not-found", "peer-left"}


async def test_cut_link_closes_nobody(
    start: StartServer, enter: Enter, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that drops everything is noticed, and made anew; a client that has left meanwhile has left then."""
    proxy = Proxy(redis.port)
    await proxy.start()
    one = await start(redis_url=redis.url)
    monkeypatch.setattr(redis_connection, "TIMEOUT", 1.0)
    two = await start(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    a, b = await enter(one), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    await a.expect("peer-joined")
    app: Any = two.app
    proxy.cut()
    await until(lambda: not app.membership.link.up)
    await b.socket.close()
    proxy.mend()
    assert await a.expect("peer-left") == {"peerId": "b"}
    await settle((one, two))
    await two.stop()
    await proxy.stop()


async def test_drain_keeps_places(instances: Instances, enter: Enter) -> None:
    """When an instance stops, its peers with a token go on elsewhere unnoticed, and the others have left."""
    one, two = await instances()
    a, b, x = await enter(one), await enter(two), await enter(two)
    await a.join("r", "a")
    await b.join("r", "b")
    token = (await x.join(**X, resume=True))["resumeToken"]
    for _ in range(2):
        await a.expect("peer-joined")
    await two.stop()
    assert await a.expect("peer-left") == {"peerId": "b"}
    again = await enter(one)
    assert (await again.join(**X, resumeToken=token))["resumed"] is True
    await settle((one,))
    await a.send("ping")
    assert (await a.receive())["type"] == "pong"


async def test_stop_at_once_ends(instances: Instances) -> None:
    """An instance that stops while it connects to Redis stops at once."""
    (server,) = await instances(1)
    async with asyncio.timeout(TIMEOUT):
        await server.stop()


async def test_evicting_redis_stops_the_start(tmp_path: Path) -> None:
    """A Redis that drops data when it is full is not accepted; one line says what to do."""
    server = RedisServer(tmp_path, "--maxmemory-policy", "allkeys-lru")
    server.start()
    service = create(Settings(host="127.0.0.1", port=0, redis_url=server.url))
    with pytest.raises(StartError, match=r"maxmemory-policy allkeys-lru.*set it to noeviction"):
        await service.start()
    server.free()


async def test_missing_redis_stops_the_start(tmp_path: Path) -> None:
    """A Redis that cannot be reached stops the start, with a line that has no password."""
    server = RedisServer(tmp_path)
    url = f"redis://ann:s3cret@127.0.0.1:{server.port}/0"
    with pytest.raises(StartError, match="cannot use Redis at REDIS_URL: ") as error:
        await create(Settings(host="127.0.0.1", port=0, redis_url=url)).start()
    assert "s3cret" not in str(error.value)
    server.free()


async def test_wrong_password_stops_the_start(redis: RedisServer) -> None:
    """A password that Redis does not accept stops the start, and is not repeated."""
    url = f"redis://ann:s3cret@127.0.0.1:{redis.port}/0"
    with pytest.raises(StartError, match="cannot use Redis at REDIS_URL: ") as error:
        await create(Settings(host="127.0.0.1", port=0, redis_url=url)).start()
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://:s3cret@localhost",
        "redis://:s3cret@localhost:x/0",
        "redis://:s3cret@localhost/name",
        *(f"redis://:s3cret@localhost/0?{option}" for option in ("protocol=3", "retry=5", "decode_responses=True")),
    ],
)
def test_unusable_url_is_named_without_its_password(url: str) -> None:
    """A URL that is none of Redis stops the start with a line that does not repeat it."""
    with pytest.raises(SettingError, match="REDIS_URL is not usable") as error:
        create(Settings(redis_url=url))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", {"host": "localhost"}),
        ("redis://:p%40ss%2Fword@h:6380/3", {"host": "h", "port": 6380, "password": "p@ss/word", "db": 3}),
        ("rediss://ann:x@h:1/0", {"host": "h", "username": "ann", "password": "x"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("redis://h?db=2&client_name=a", {"host": "h", "db": 2, "client_name": "a"}),
        ("rediss://h?ssl_cert_reqs=none", {"host": "h"}),
    ],
)
def test_urls_of_hosts_are_read(url: str, expected: dict[str, Any]) -> None:
    """The URLs that hosts hand out are read: with TLS, percent-encoded passwords, and numbers of databases."""
    pool: Any = Connector(url)._pool
    assert expected.items() <= pool.connection_kwargs.items()
    assert ("SSL" in pool.connection_class.__name__) is url.startswith("rediss:")


async def test_count_that_changes_while_it_is_restored(instances: Instances, enter: Enter) -> None:
    """A client that unsubscribes while the instance restores its counts is counted again."""
    (server,) = await instances(1)
    app: Any = server.app
    a = await enter(server)
    await a.send("subscribe", topics=["t"])
    await until(lambda: "t" in app.topics.topics)
    restored: list[Any] = []

    async def run(calls: Any) -> list[Any]:
        if not restored:
            del app.topics.topics["t"]
            app.topics.doubtful.add("t")
        restored.extend(args for _, args in calls)
        return [b"ok" for _ in calls]

    await app._recovery.restore(run, empty=True)
    assert restored == [("topic", "t", 1), ("topic", "t", 0)]


async def test_counts_that_cannot_be_restored(instances: Instances) -> None:
    """Counts that were not restored, since the connection broke, are restored on the next one."""
    (server,) = await instances(1)
    app: Any = server.app
    app.topics.doubtful.add("t")
    app.devices.doubtful.add("u")

    async def run(_: Any) -> list[Any]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await app._recovery.restore(run, empty=False)
    assert (app.topics.doubtful, app.devices.doubtful) == ({"t"}, {"u"})
