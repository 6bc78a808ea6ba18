"""Two servers on one database: a room is on one of them, and clients of the other are passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync import entrance
from opennoodl_sync.cluster import relay as relay_module
from opennoodl_sync.cluster.relay import Relay
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.edge.settings import SettingError
from opennoodl_sync.server import create
from opennoodl_sync.settings import Settings
from opennoodl_sync.storage.interface import ElsewhereError
from opennoodl_sync.storage.postgresql import lease as lease_module
from websockets.asyncio.client import connect

from .client import TIMEOUT, Client, Server, running
from .databases import execute
from .disks import until
from .edge.issuer import SECRET as AUTH_SECRET
from .edge.issuer import signed
from .test_server_slow import write_until_slow

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]
SECRET = "s" * 32


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an owner time to answer, and to give a room back, also on a busy machine."""
    monkeypatch.setattr(entrance, "PATIENCE", TIMEOUT)
    monkeypatch.setattr(relay_module, "CONNECT_TIMEOUT", TIMEOUT)


@asynccontextmanager
async def two(path: Path, url: str, **settings: Any) -> AsyncIterator[tuple[Server, Server]]:
    """Run two servers on one database."""
    both = {"database_url": url, "cluster_secret": SECRET, **settings}
    async with running(path, **both) as one, running(path, **both) as other:
        await announced(url)
        yield one, other


async def announced(url: str) -> None:
    """Wait until every server has told where it is."""
    async with asyncio.timeout(TIMEOUT):
        while await execute(url, "SELECT FROM opennoodl_sync.instances WHERE url = ''"):
            pass


async def test_clients_of_both_see_each_other(tmp_path: Path, url: str) -> None:
    """Edits and cursors go between clients of both servers, and only the owner has the room."""
    async with two(tmp_path, url) as (one, other):
        ann = await one.join("room", 1)
        await ann.type("from one ")
        bob = await other.join("room", 2)
        await bob.shows("from one ")
        await bob.type("from two")
        await ann.shows("from two")
        await bob.point(1, {"name": "Bob"})
        await ann.knows({2: (1, {"name": "Bob"})})
        assert (list(one.app.rooms.rooms), list(other.app.rooms.rooms)) == (["room"], [])
        assert (len(one.app._peers.relays), len(other.app._peers.relays)) == (0, 1)
        await bob.close()
        await ann.until(lambda: ann.states[2][1] is None)
        await until(lambda: not other.app._peers.relays)


async def test_large_messages_are_forwarded_whole(tmp_path: Path, url: str) -> None:
    """Messages of a megabyte are passed on whole, both ways."""
    async with two(tmp_path, url) as (one, other):
        ann, bob = await one.join("room", 1), await other.join("room", 2)
        await bob.type("b" * 1_000_000)
        await ann.shows("b" * 1_000_000)
        await ann.type("a" * 1_000_000)
        await bob.shows("a" * 1_000_000)
        late = await other.join("room", 3)
        assert late.same(ann)


async def test_a_drain_loses_nobody(tmp_path: Path, url: str) -> None:
    """When the owner stops, its rooms are free at once: the next client at the other server has all of them."""
    async with running(tmp_path, database_url=url, cluster_secret=SECRET) as other:
        async with running(tmp_path, database_url=url, cluster_secret=SECRET) as one:
            await announced(url)
            ann, bob = await one.join("room", 1), await other.join("room", 2)
            await ann.type("kept")
            await bob.shows("kept")
        assert await ann.ended() == 1001
        assert await bob.ended() in (1001, 1013)
        assert (await other.join("room", 3)).text == "kept"
        assert "room" in other.app.rooms.rooms


async def test_a_client_waits_while_the_owner_stops(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose connection cannot be passed on is let in when the owner gives the room back moments later."""
    async with two(tmp_path, url) as (one, other):
        await one.join("room", 1)
        start = Relay.start

        async def refused(relay: Relay, *arguments: Any) -> None:
            monkeypatch.setattr(Relay, "start", start)
            for session in one.members("room"):
                session.abort()
            room = one.app.rooms.rooms["room"]
            await until(lambda: not room.clients and not room.busy)
            one.app.rooms.unload(room)
            async with asyncio.timeout(TIMEOUT):
                while await execute(url, "SELECT FROM opennoodl_sync.rooms WHERE owner IS NOT NULL"):
                    pass
            raise relay_module.RelayError("draining")

        monkeypatch.setattr(Relay, "start", refused)
        await other.join("room", 2)
        assert "room" in other.app.rooms.rooms


async def test_room_size_counts_clients_of_both_servers(tmp_path: Path, url: str) -> None:
    """MAX_ROOM_SIZE counts the clients of both servers (S6)."""
    async with two(tmp_path, url, max_room_size=2) as (one, other):
        await one.join("room", 1)
        await other.join("room", 2)
        for server in (one, other):
            client = await server.join("room", 3, sync=False)
            assert await client.ended() == 1013
            assert client.socket.close_reason == "This room is full: its limit of clients is 2."


async def test_the_address_of_the_client(tmp_path: Path, url: str) -> None:
    """The owner knows the address of a client that is passed on, and not only the other server's."""
    async with two(tmp_path, url, trusted_proxies="127.0.0.1") as (one, other):
        await one.join("room", 1)
        bob = await connect(other.url("room"), additional_headers={"X-Forwarded-For": "192.0.2.1"})
        await asyncio.wait_for(bob.recv(), TIMEOUT)
        assert {connection.address for connection in one.members("room")} == {"127.0.0.1", "192.0.2.1"}
        await bob.close()


async def test_addresses_are_limited_at_the_owner(tmp_path: Path, url: str) -> None:
    """A client that has as many connections to the owner as it may is not let in through another server."""
    async with two(tmp_path, url, trusted_proxies="127.0.0.1", max_connections_per_ip=1) as (one, other):
        ann = await connect(one.url("room"), additional_headers={"X-Forwarded-For": "192.0.2.1"})
        await asyncio.wait_for(ann.recv(), TIMEOUT)  # it has the room
        bob = await connect(other.url("room"), additional_headers={"X-Forwarded-For": "192.0.2.1"})
        await asyncio.wait_for(bob.wait_closed(), TIMEOUT)
        assert bob.close_code == 1013
        await ann.close()


async def test_tls_and_origins_are_the_first_servers_matter(tmp_path: Path, url: str) -> None:
    """A connection that came over TLS to one server need not come over TLS to the other one."""
    options = {"require_wss": True, "trusted_proxies": "127.0.0.1", "allowed_origins": "https://noodl.example"}
    async with two(tmp_path, url, **options) as (one, other):
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Origin": "https://noodl.example"}
        ann = await connect(one.url("room"), additional_headers=headers)
        bob = await connect(other.url("room"), additional_headers=headers)
        await asyncio.wait_for(bob.recv(), TIMEOUT)
        await ann.close()
        await bob.close()


async def test_tokens_are_checked_by_both_servers(tmp_path: Path, url: str) -> None:
    """Both servers check the token; who may only read is told so by the owner."""
    async with two(tmp_path, url, auth="jwt", auth_secret=AUTH_SECRET) as (one, other):
        ann = await join(one, 1, signed())
        bob = await join(other, 2, signed(access="read"))
        await ann.type("seen")
        await bob.shows("seen")
        await bob.type("not kept")
        await bob.until(lambda: any(message[0] == 2 for message in bob.messages))
        eve = await connect(other.url("room"))
        await asyncio.wait_for(eve.wait_closed(), TIMEOUT)
        assert eve.close_code == 1008
        assert len(other.app._peers.relays) == 1


async def join(server: Server, number: int, shown: str) -> Client:
    """Connect a client with a token."""
    socket = await connect(f"{server.url('room')}?token={shown}", compression=None, max_size=None)
    client = Client(socket, number)
    server.clients.append(client)
    await client.step_1()
    await client.until(lambda: client.synced)
    return client


async def test_close_codes_of_the_owner_reach_the_client(tmp_path: Path, url: str) -> None:
    """A close of the owner has the same code and reason at the client."""
    async with two(tmp_path, url) as (one, other):
        await one.join("room", 1)
        bob = await other.join("room", 2)
        await bob.socket.send(b"\x63")
        assert await bob.ended() == 1003
        assert (bob.socket.close_reason or "").startswith("Not a valid message")


async def test_a_lost_client_is_lost_for_the_owner(tmp_path: Path, url: str) -> None:
    """The cursor of a passed-on client whose connection was cut is kept for a while, as that of any other."""
    async with two(tmp_path, url) as (one, other):
        ann, bob = await one.join("room", 1), await other.join("room", 2)
        await bob.point(1, {"name": "Bob"})
        await ann.knows({2: (1, {"name": "Bob"})})
        await bob.abort()
        await until(lambda: len(one.members("room")) == 1)
        assert ann.states == {2: (1, {"name": "Bob"})}


async def test_a_forwarded_connection_is_not_forwarded_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is passed on to a server that does not have the room is not passed on again."""
    async with two(tmp_path, url) as (one, other):
        await one.join("room", 1)

        async def elsewhere(name: str, address: str = "") -> Any:
            raise ElsewhereError(other.app._store.instance, f"ws://127.0.0.1:{other.service.port}")

        monkeypatch.setattr(one.app.rooms, "open", elsewhere)
        bob = await other.join("room", 2, sync=False)
        assert await bob.ended() == 1013
        assert other.app._peers.outcomes == {"accepted": 1, "failed": 0}
        assert one.app._peers.outcomes == {"accepted": 0, "failed": 0}


async def test_an_owner_that_cannot_be_reached(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose room's owner has its lease and cannot be reached is closed with 1013 after a while."""
    monkeypatch.setattr(lease_module, "RENEW_INTERVAL", 1000.0)
    monkeypatch.setattr(entrance, "PATIENCE", 0.1)
    async with two(tmp_path, url) as (one, other):
        await one.join("room", 1)
        await execute(url, "UPDATE opennoodl_sync.instances SET url = 'ws://127.0.0.1:1'")
        bob = await other.join("room", 2, sync=False)
        assert await bob.ended() == 1013
        assert other.app._peers.outcomes["failed"] >= 1


async def test_a_header_of_another_secret_has_no_effect(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A header that is signed with another secret has no effect, and the log says so."""
    async with two(tmp_path, url, trusted_proxies="192.0.2.9") as (one, _):
        forged = {"X-OpenNoodl-Passed-On": "192.0.2.1 " + "0" * 64}
        socket = await connect(one.url("room"), additional_headers=forged)
        await asyncio.wait_for(socket.recv(), TIMEOUT)
        assert {connection.address for connection in one.members("room")} == {"127.0.0.1"}
        await socket.close()
    assert "a connection was passed on with another CLUSTER_SECRET" in capsys.readouterr().out


async def test_a_missing_secret_closes_forwarded_clients(tmp_path: Path, url: str) -> None:
    """Without CLUSTER_SECRET, a client of another server's room is closed with 1013."""
    async with running(tmp_path, database_url=url) as one, running(tmp_path, database_url=url) as other:
        await one.join("room", 1)
        bob = await other.join("room", 2, sync=False)
        assert await bob.ended() == 1013
        assert bob.socket.close_reason == "Another server has this document. Connect again."


async def test_an_owner_whose_lease_is_over(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that were passed on to it are closed with 1013, and find the room at another server."""
    monkeypatch.setattr(lease_module, "RENEW_INTERVAL", 1000.0)
    async with two(tmp_path, url) as (one, other):
        ann, bob = await one.join("room", 1), await other.join("room", 2)
        await ann.type("kept")
        await bob.shows("kept")
        name = one.app._store.instance
        await execute(url, "UPDATE opennoodl_sync.instances SET expires = now() WHERE name = $1", name)
        assert await bob.ended() == 1013
        again = await other.join("room", 3)
        assert again.text == "kept"
        await ann.type(" late")  # it is told when it writes
        assert await ann.ended() == 1013
        assert (await other.join("room", 4, *ann.updates)).text == "kept late"
        await again.shows(" late")


async def test_a_client_that_does_not_read(tmp_path: Path, url: str) -> None:
    """Output for a slow client is bounded at both servers, and the client is caught up when it reads again."""
    async with two(tmp_path, url, slow_client_buffer=65_536, rate_limit=0, byte_rate_limit=0) as (one, other):
        ann = await one.join("room", 1)
        known = one.members("room")
        bob = await other.join("room", 2)
        (relay,), (behind,) = other.app._peers.relays, one.members("room") - known
        bob.socket.transport.pause_reading()
        await write_until_slow(ann, behind, 50_000)
        waiting = relay.buffered, behind.buffered
        for number in range(20):
            ann.put(f"meanwhile {number}", "x" * 50_000)
        await ann.push_edits()
        await (await one.join("room", 3)).agrees(ann)
        assert (relay.buffered, behind.buffered) == waiting
        assert max(waiting) < 500_000
        bob.socket.transport.resume_reading()
        await bob.agrees(ann)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"database_url": "postgresql://x/y", "enable_persistence": False}, "ENABLE_PERSISTENCE is false"),
        ({"cluster_secret": SECRET}, "CLUSTER_SECRET is set, but DATABASE_URL is not"),
        ({"instance_url": "ws://a:1"}, "INSTANCE_URL is set, but DATABASE_URL is not"),
        ({"database_url": "postgresql://x/y", "cluster_secret": "short"}, "CLUSTER_SECRET is too short"),
        ({"database_url": "postgresql://x/y", "instance_url": "http://a:1"}, "INSTANCE_URL is not usable"),
        ({"database_url": "postgresql://x/y", "instance_url": "ws://a:99999"}, "INSTANCE_URL is not usable"),
        (
            {"database_url": "postgresql://x/y", "cluster_secret": SECRET, "tls_cert": "c", "tls_key": "k"},
            "TLS_CERT and CLUSTER_SECRET are set, and INSTANCE_URL is not",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict(values: dict[str, Any], message: str) -> None:
    """Settings that contradict each other stop the start with one line."""
    with pytest.raises(SettingError, match=message) as error:
        Settings(**values)
    assert "\n" not in str(error.value)


async def test_another_database_stops_the_start() -> None:
    """A URL of another database stops the start with one line that says what is accepted."""
    with pytest.raises(StartError, match="DATABASE_URL is not a URL of PostgreSQL; accepted is postgresql://"):
        await create(Settings(database_url="sqlite:///x", port=0)).start()


async def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Without asyncpg, DATABASE_URL stops the start with one line that says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "opennoodl_sync.storage.postgresql.store", None)
    with pytest.raises(StartError, match=r"pip install 'opennoodl-sync-server\[postgresql\]'"):
        await create(Settings(database_url=url, port=0)).start()
