"""Two servers on one database, as processes, with all that can happen to them: kills, stops, cut links, restarts.

The names S1 to S6 are those of docs/architecture.md, "Several instances".
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from .client import Process, get, join
from .cut_link import CutLink, Streams
from .databases import Database, execute
from .wire import update_message
from .writer import Writer, lacks, state

pytestmark = pytest.mark.xdist_group("chaos")
SECRET = "s" * 32
ROOMS = ("letters", "numbers")
PATIENCE = 120.0


class Instance:
    """One server behind links that can be cut.

    Attributes:
        process: the server.
        to_database, to_me: its link to the database, and that of other servers to it.
        stopped: whether it is stopped, or not running.
    """

    def __init__(self, path: Path, database: Database, scale: float) -> None:
        self.process: Process | None = None
        self.stopped = True
        self._path = path
        self._database = database
        self._before = (
            "from opennoodl_sync.storage.postgresql import lease\n"
            f"for name in ('DURATION', 'LAPSE_AFTER', 'RENEW_INTERVAL', 'RETRY_INTERVAL', 'RENEW_TIMEOUT'):\n"
            f"    setattr(lease, name, {scale} * getattr(lease, name))\n"
        )
        self.to_database = CutLink(self._reach_database)
        self.to_me = CutLink(self._reach_process)

    async def _reach_database(self) -> Streams:
        return await asyncio.open_unix_connection(self._database.socket)

    async def _reach_process(self) -> Streams:
        assert self.process is not None
        return await asyncio.open_connection("127.0.0.1", self.process.port)

    async def start(self) -> None:
        """Start the server."""
        if not self.to_me.port:
            await self.to_database.start()
            await self.to_me.start()
        self.process = await Process.start(
            self._path,
            before=self._before,
            DATABASE_URL=f"postgresql://postgres@127.0.0.1:{self.to_database.port}/postgres",
            INSTANCE_URL=f"ws://127.0.0.1:{self.to_me.port}",
            CLUSTER_SECRET=SECRET,
            FSYNC="true",
            RATE_LIMIT="0",
            BYTE_RATE_LIMIT="0",
            ROOM_IDLE_TIMEOUT="1000",
        )
        self.log = asyncio.create_task(self._drain_log())
        self.lines: list[bytes] = []
        self.stopped = False

    async def _drain_log(self) -> None:
        assert self.process is not None
        assert self.process.child.stdout is not None
        async for line in self.process.child.stdout:
            self.lines.append(line)

    @property
    def port(self) -> int:
        """The port for clients."""
        assert self.process is not None
        return self.process.port

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self.process is not None
        self.process.child.send_signal(number)
        self.stopped = number != signal.SIGCONT

    async def wait(self) -> int:
        """Wait until the server has ended; return its exit code."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            code = await self.process.child.wait()
            await self.log
        return code

    async def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.child.returncode is None:
            self.process.child.kill()
            await self.process.child.wait()
            await self.log
        print(b"".join(getattr(self, "lines", [])[-40:]).decode(errors="replace"))
        for link in (self.to_database, self.to_me):
            if link.port:
                await link.close()


class Cluster:
    """Two servers and their database.

    Attributes:
        scale: how long leases are, in parts of what they are when deployed.
    """

    def __init__(self, path: Path, database: Database, scale: float) -> None:
        self.database = database
        self.scale = scale
        self.lease = 10 * scale
        self.instances = [Instance(path, database, scale) for _ in range(2)]

    async def owner(self, room: str) -> Instance:
        """Return the server that has a room."""
        (row,) = await execute(
            self.database.url,
            "SELECT url FROM opennoodl_sync.rooms r JOIN opennoodl_sync.instances i ON i.name = r.owner "
            "WHERE r.name = $1",
            room,
        )
        (owner,) = [one for one in self.instances if row["url"].endswith(f":{one.to_me.port}")]
        return owner

    def other(self, instance: Instance) -> Instance:
        """Return the other server."""
        (other,) = [one for one in self.instances if one is not instance]
        return other


@asynccontextmanager
async def cluster_of_two(path: Path, scale: float) -> AsyncIterator[Cluster]:
    """Run two servers."""
    database = await asyncio.to_thread(Database)
    cluster = Cluster(path, database, scale)
    try:
        await asyncio.gather(*(instance.start() for instance in cluster.instances))
        yield cluster
    finally:
        for instance in cluster.instances:
            await instance.close()
        await asyncio.to_thread(database.stop)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Run two servers with short leases."""
    async with cluster_of_two(tmp_path, 0.2) as cluster:
        yield cluster


async def find(cluster: Cluster, instance: Instance, room: str, number: int, *known: bytes) -> str:
    """Connect to a room again and again until it is served; return its text then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                client = await join(instance.port, room, number, *known)
                text = client.text
                await client.close()
                return text
            except (OSError, WebSocketException, AssertionError):
                await asyncio.sleep(0.1)


async def test_s1_nothing_shown_is_lost_in_a_crash(cluster: Cluster) -> None:
    """S1: the owner of a room is killed; the other server has all that was shown, when the lease is over."""
    one, other = cluster.instances
    ann, bob = await join(one.port, "room", 1), await join(other.port, "room", 2)
    for number in range(50):
        await ann.type(f"{number} ")
    await bob.has(50)
    one.signal(signal.SIGKILL)
    await ann.ended()
    assert await bob.ended() == 1013
    assert len((await find(cluster, other, "room", 3)).split()) == 50


async def test_s2_epochs_never_go_down(cluster: Cluster) -> None:
    """S2: the records of a room have rising epochs, though its owner changes by a crash and by a drain."""
    one, other = cluster.instances
    words: list[bytes] = []
    for number, (at, end) in enumerate(((one, signal.SIGKILL), (other, signal.SIGTERM), (one, None))):
        await find(cluster, at, "room", 10 + number)
        client = await join(at.port, "room", number + 1)
        await client.type(f"{number} ")
        words += client.updates
        await (await join(at.port, "room", 20 + number)).has(number + 1)
        if end is not None:
            at.signal(end)
            await at.wait()
            await at.start()
    rows = await execute(cluster.database.url, "SELECT epoch FROM opennoodl_sync.updates ORDER BY seq")
    epochs = [row["epoch"] for row in rows]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 3


async def test_s3_a_stopped_owner_shows_nothing_new(cluster: Cluster) -> None:
    """S3, S5: an owner that wakes after its lease shows nobody what came meanwhile, and closes its clients at once."""
    one, other = cluster.instances
    ann, rita = await join(one.port, "room", 1), await join(one.port, "room", 2)
    await ann.type("before ")
    await rita.shows("before ")
    one.signal(signal.SIGSTOP)
    await ann.type("unseen ")  # waits in the socket of the owner
    assert await find(cluster, other, "room", 3) == "before "
    new = await join(other.port, "room", 4)
    await new.type("new ")
    await (await join(other.port, "room", 5)).shows("new ")
    one.signal(signal.SIGCONT)
    assert {await ann.ended(), await rita.ended()} == {1013}
    assert rita.text == "before "
    again = await join(other.port, "room", 6, ann.doc.get_update())
    await again.until(lambda: set(again.text.split()) == {"before", "unseen", "new"})
    await new.agrees(again)


async def test_s5_clients_leave_an_owner_that_cannot_reach_the_database(cluster: Cluster) -> None:
    """S5: readers of an owner whose link to the database is silent are closed before its lease is over."""
    one, other = cluster.instances
    rita, bob = await join(one.port, "room", 1), await join(other.port, "room", 2)
    one.to_database.stall()
    assert await rita.ended() == 1013
    assert await bob.ended() == 1013
    health, ready = await page(one, "/health"), await page(one, "/ready")
    assert (health[0], health[1]["status"], ready[0]) == (200, "degraded", 503)
    await find(cluster, other, "room", 3)
    assert await cluster.owner("room") is other
    one.to_database.heal()
    await find(cluster, one, "room", 4)


async def page(instance: Instance, path: str) -> tuple[int, dict[str, str]]:
    """Return status and body of a page."""
    answer = await get(instance.port, path)
    return answer.status, json.loads(answer.body)


async def test_a_link_between_servers_that_is_cut(cluster: Cluster) -> None:
    """A client whose connection cannot be passed on is closed with 1013, and served when the link is there again."""
    one, other = cluster.instances
    await join(one.port, "room", 1)
    bob = await join(other.port, "room", 2)
    one.to_me.cut()
    assert await bob.ended() == 1013
    refused = await join(other.port, "room", 3, sync=False)
    assert await refused.ended() == 1013
    one.to_me.heal()
    await find(cluster, other, "room", 4)


class Wanderer(Writer):
    """A writer that always comes back, to either server."""

    async def wander(self, cluster: Cluster, stop: asyncio.Event) -> None:
        """Edit until `stop` is set, wherever a server lets it in."""
        while not stop.is_set():
            instance = self.dice.choice(cluster.instances)
            try:
                async with asyncio.timeout(15):
                    await self.connect(instance.port)
                while not stop.is_set() and self.code is None:
                    await self.send(update_message(self.edit()))
                    await asyncio.sleep(self.dice.random() * 0.05)
                    if instance.stopped and self.dice.random() < 0.05:  # as a balancer would have it
                        await self.vanish()
            except (OSError, WebSocketException, ConnectionClosed, TimeoutError, AssertionError):
                await asyncio.sleep(0.1)
        if self._socket is not None and self.code is None:
            await self.vanish()


class Chaos:
    """What happens to two servers."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self.cluster = cluster
        self.dice = dice

    @property
    def faults(self) -> list[str]:
        """The names of all faults."""
        return ["kill", "pause", "cut_database", "stall_database", "cut_peer", "restart_database", "roll"]

    async def kill(self) -> None:
        """Kill a server, and start it again."""
        instance = self.dice.choice(self.cluster.instances)
        instance.signal(signal.SIGKILL)
        await instance.wait()
        await asyncio.sleep(self.dice.random() * self.cluster.lease)
        await instance.start()

    async def pause(self) -> None:
        """Stop a server for longer than its lease."""
        instance = self.dice.choice(self.cluster.instances)
        instance.signal(signal.SIGSTOP)
        await asyncio.sleep(self.cluster.lease * self.dice.uniform(0.5, 1.5))
        instance.signal(signal.SIGCONT)

    async def cut_database(self) -> None:
        """Cut a server off from the database."""
        await self._off(self.dice.choice(self.cluster.instances).to_database, "cut")

    async def stall_database(self) -> None:
        """Let nothing through between a server and the database."""
        await self._off(self.dice.choice(self.cluster.instances).to_database, "stall")

    async def cut_peer(self) -> None:
        """Cut the link from one server to the other."""
        await self._off(self.dice.choice(self.cluster.instances).to_me, self.dice.choice(["cut", "stall"]))

    async def _off(self, link: CutLink, how: str) -> None:
        getattr(link, how)()
        await asyncio.sleep(self.cluster.lease * self.dice.uniform(0.3, 1.5))
        link.heal()

    async def restart_database(self) -> None:
        """Restart PostgreSQL."""
        await asyncio.to_thread(self.cluster.database.stop)
        await asyncio.to_thread(self.cluster.database.start)

    async def roll(self) -> None:
        """Restart all servers, one after the other."""
        for instance in self.cluster.instances:
            instance.signal(signal.SIGTERM)
            assert await instance.wait() == 0
            await instance.start()


async def test_invariants_hold_under_any_faults(tmp_path: Path, dice: random.Random, chaos_rounds: int) -> None:
    """S1 to S5 hold under all faults: nothing shown or acknowledged is lost, and all agree soon after the last one."""
    async with cluster_of_two(tmp_path, 1.0 if chaos_rounds else 0.4) as cluster:
        chaos = Chaos(cluster, dice)
        faults = chaos.faults
        dice.shuffle(faults)
        if chaos_rounds:
            faults = [dice.choice(faults) for _ in range(chaos_rounds)]
        writers = [Wanderer(ROOMS[n % 2], n + 1, random.Random(dice.random()), ack=n % 3 == 0) for n in range(6)]  # noqa: S311
        stop = asyncio.Event()
        tasks = [asyncio.create_task(writer.wander(cluster, stop)) for writer in writers]
        for fault in faults:
            print(fault)
            await getattr(chaos, fault)()
            await asyncio.sleep(dice.random())
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
        # On a busy machine the clients themselves take longer than the servers may.
        await settled(cluster, writers, 15 + cluster.lease if chaos_rounds else PATIENCE)
        rows = await execute(
            cluster.database.url,
            "SELECT FROM (SELECT epoch < lag(epoch) OVER (PARTITION BY room ORDER BY seq) AS down "
            "FROM opennoodl_sync.updates) AS epochs WHERE down",
        )
        assert rows == []
        print(sum(len(writer.shown) for writer in writers), "shown", sum(len(writer.promised) for writer in writers))
        # Comparing keeps the event loop, which has the links to the database, for longer than a lease.
        fresh = [await fetched(cluster, number, room, dice) for number, room in enumerate(ROOMS)]
        for number, writer in enumerate(writers):
            assert not fresh[number % 2].waits
            assert not writer.lost(fresh[number % 2])
            assert not lacks(fresh[number % 2].doc, writer.promised)


async def fetched(cluster: Cluster, number: int, room: str, dice: random.Random) -> Writer:
    """Return a client that has fetched a room from a server, and has left."""
    fresh = Writer(room, 100 + number, dice)
    async with asyncio.timeout(PATIENCE):
        while not fresh.synced:
            with suppress(OSError, WebSocketException, AssertionError):
                await fresh.connect(cluster.instances[number].port)
                await fresh.until(lambda: fresh.synced)
    await fresh.vanish()
    return fresh


async def agree(writers: list[Wanderer]) -> bool:
    """Return whether all of a room have the same document.

    Each comparison keeps the event loop, which has the links to the database, so the links have their turns in between.
    """
    for room in ROOMS:
        first, *others = [writer for writer in writers if writer.room == room]
        if any(state(writer.doc) != state(first.doc) for writer in others):
            return False
        for writer in others:
            if not writer.agrees([first]):
                return False
            await asyncio.sleep(0)
    return True


async def settled(cluster: Cluster, writers: list[Wanderer], seconds: float) -> None:
    """Connect all writers, and wait until all of a room agree, within a time (S4)."""
    peace = monotonic()
    while not await agree(writers):
        assert monotonic() - peace < seconds
        for number, writer in enumerate(writers):
            if writer._socket is None or writer.code is not None:
                with suppress(OSError, WebSocketException, ConnectionClosed, AssertionError, TimeoutError):
                    await asyncio.wait_for(writer.connect(cluster.instances[number % 2].port), 15)
        await asyncio.sleep(0.2)
    for writer in writers:
        await writer.vanish()
