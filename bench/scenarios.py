"""The scenarios of the sync server, in their full size and in a quick one that only shows that they work."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from . import editors, open_loop, opening, saturated, session
from .outcome import Metric, Outcome
from .saturated import FanOut
from .servers import PEERS, Server
from .stored_data import DOCUMENTS, Seed
from .updates import document, recorded

MIB = 2**20
WARM = 0.1
"""Share of the updates that are sent before, in rooms of their own, for servers that compile while they run."""

OF_YJS = frozenset({"ours", "y-websocket-server"})
"""The servers that store every update, and whose dialect is that of Yjs' own clients."""

Run = Callable[[Server], Awaitable[Outcome]]


@dataclass(frozen=True)
class Scenario:
    """One load, and what is read from it.

    Attributes:
        name: for the command line.
        title: for people.
        group: scenarios with the same columns, shown in one table.
        metrics: the columns.
        run: carries it out.
        seed: what is there before the server starts; servers that store nothing are left out.
        peers: the names of the servers that it is for; all if it does not say.
    """

    name: str
    title: str
    group: str
    metrics: Sequence[Metric]
    run: Run
    seed: Seed | None = None
    peers: frozenset[str] | None = None


def sync(*, quick: bool) -> list[Scenario]:
    """Return the scenarios of the sync server."""
    saturated = [*_saturated(quick), *_drawn(quick), *_recordings(quick)]
    return [
        *map(_of_documents, saturated),
        *_paced(quick),
        *_editors(quick),
        *_session(quick),
        *map(_of_documents, _opened(quick)),
    ]


def _of_documents(scenario: Scenario) -> Scenario:
    """Leave out the server that knows none: what sending costs is read from the open loop."""
    peers = scenario.peers or frozenset(peer.name for peer in PEERS)
    return replace(scenario, peers=peers - {"fan-out"})


def _saturated(quick: bool) -> list[Scenario]:
    limit = 10.0 if quick else 30.0

    def scenario(name: str, title: str, load: FanOut) -> Scenario:
        if quick:
            load = load._replace(updates=load.updates // 20)
        warming = load._replace(updates=max(2, int(load.updates * WARM)))

        async def run(server: Server) -> Outcome:
            await saturated.fan_out(server, warming, limit, prefix="warm")
            return await saturated.fan_out(server, load, limit)

        title = f"{title}, {load.updates:,} updates each"
        return Scenario(name, title, "Saturated fan-out", saturated.METRICS, run)

    return [
        scenario("1x20", "1 room x 20 writers", FanOut(1, 20, 20, 1000)),
        scenario("50x4", "50 rooms x 4 writers", FanOut(50, 4, 4, 400)),
        scenario("1x200", "1 room x 200 clients, 5 of them writers", FanOut(1, 200, 5, 1000)),
    ]


def _drawn(quick: bool) -> list[Scenario]:
    load, runs, limit = (FanOut(1, 20, 20, 50), 2, 10.0) if quick else (FanOut(1, 20, 20, 1000), 10, 30.0)

    async def run(server: Server) -> Outcome:
        await saturated.fan_out(server, load._replace(updates=max(2, int(load.updates * WARM))), limit, prefix="warm")
        return await saturated.drawn(server, load, runs, limit)

    title = f"1x20, {runs} runs with client ids drawn anew"
    return [Scenario("1x20-ids", title, "Chance", saturated.DRAWN_METRICS, run, peers=OF_YJS)]


def _recordings(quick: bool) -> list[Scenario]:
    edits, limit = (3000, 10.0) if quick else (None, 30.0)

    def scenario(name: str, title: str) -> Scenario:
        async def run(server: Server) -> Outcome:
            recording = recorded(name, edits)
            if recording is None:
                return Outcome(notes=["skipped: the recording is not in ../shared/data"])
            return await saturated.replay(server, recording, limit)

        return Scenario(name, title, "Recorded sessions, one sender and 3 readers", saturated.RECORDING_METRICS, run)

    return [
        scenario("friendsforever", "friendsforever, two authors' 26,078 edits" if not quick else "friendsforever"),
        scenario("automerge-paper", "automerge-paper, 259,778 keystrokes" if not quick else "automerge-paper"),
    ]


def _paced(quick: bool) -> list[Scenario]:
    warm, seconds, limit = (0.5, 1.0, 10.0) if quick else (2.0, 8.0, 20.0)

    def scenario(name: str, title: str, rooms: int, rate: float, seconds: float) -> Scenario:
        run = partial(open_loop.open_loop, rooms=rooms, clients=10, rate=rate, warm=warm, seconds=seconds, limit=limit)
        return Scenario(name, title, "Open loop, rooms of 10 clients", open_loop.METRICS, run)

    return [
        scenario("10/s", "10 updates/s in 1 room", 1, 1, 3 * seconds),
        scenario("2000/s", "2,000 updates/s in 10 rooms", 10, 20, seconds),
        scenario("4000/s", "4,000 updates/s in 20 rooms", 20, 20, seconds),
        scenario("8000/s", "8,000 updates/s in 40 rooms", 40, 20, seconds),
    ]


def _session(quick: bool) -> list[Scenario]:
    edits, limit = (2000, 30.0) if quick else (100_000, 300.0)
    run = partial(session.long, edits=edits, limit=limit)
    title = f"{edits:,} edits by two clients with undo"
    return [Scenario("session", title, "A long session", session.METRICS, run, peers=OF_YJS)]


def _editors(quick: bool) -> list[Scenario]:
    users, most = (10, 20) if quick else (400, 12_800)
    pace = editors.Pace(1, 1, 5.0) if quick else editors.Pace(2, 6, 10.0)
    run = partial(editors.doubled, users=users, most=most, pace=pace)
    title = f"{users} users, doubled, in rooms of {editors.ROOM}"
    return [Scenario("editors", title, "Editors with cursors", editors.metrics(users), run)]


def _opened(quick: bool) -> list[Scenario]:
    size, records, rooms, connections = (MIB, 50, 100, 200) if quick else (10 * MIB, 400, 1000, 1000)
    limit = 60.0
    large = Seed(lambda: [("document", document(size, records))])
    raw = Seed(lambda: [("document", document(size, records))], {**DOCUMENTS, "compacted": DOCUMENTS["y-leveldb"]})
    small = Seed(lambda: [(name, document(10_000, 20)) for name in opening.stored_rooms(rooms)])
    return [
        Scenario(
            "document",
            f"a document of {size // MIB} MiB in {records} records",
            "A stored document and its first client",
            opening.DOCUMENT_METRICS,
            partial(opening.first_client, room="document", size=size, limit=limit),
            large,
        ),
        Scenario(
            "taken-over",
            f"{size // MIB} MiB in {records} records that y-leveldb wrote",
            "A document that y-leveldb wrote and its first client",
            opening.DOCUMENT_METRICS,
            partial(opening.first_client, room="document", size=size, limit=limit),
            raw,
            peers=OF_YJS,
        ),
        Scenario(
            "rooms",
            f"{rooms:,} stored rooms opened at once",
            "Cold rooms",
            opening.ROOMS_METRICS,
            partial(opening.many_rooms, rooms=rooms, limit=limit),
            small,
        ),
        Scenario(
            "idle",
            f"{connections:,} idle connections in rooms of 10",
            "Idle connections",
            opening.IDLE_METRICS,
            partial(opening.idle, connections=connections, clients=10),
        ),
    ]
