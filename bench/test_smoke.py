"""The benchmark works: one scenario of each kind, tiny, on our server alone. It asserts what arrived, never a time."""

import asyncio
import os
from pathlib import Path
from typing import cast

import pytest

from . import (
    across_instances,
    cluster,
    editors,
    expensive_updates,
    machine,
    notification_load,
    notifications,
    open_loop,
    opening,
    rounds,
    saturated,
    session,
    signaling,
    signaling_load,
    versions,
)
from .outcome import Outcome
from .rounds import Results
from .scenarios import Run, Scenario, sync
from .servers import OURS, PEERS, Peer, Server, running
from .soak import soak
from .stored_data import Seed
from .updates import document, recorded

HERE = Path(__file__).parent


def once(scenario: Run, seed: Seed | None = None) -> Outcome:
    """Run a scenario on our server, on whatever cores are free."""

    async def main() -> Outcome:
        async with running(OURS, None, seed) as server:
            return await scenario(server)

    return asyncio.run(main())


def complete(outcome: Outcome) -> bool:
    """Whether all updates came to all clients, with nothing to remark except that the machine is busy."""
    busy = [note for note in outcome.notes if note.startswith("the generator")]
    return outcome.values["arrived"] == 1 and outcome.notes == busy


def test_saturated_fan_out_delivers_everything() -> None:
    """Every token of every writer comes to the clients whose frames are kept."""

    async def scenario(server: Server) -> Outcome:
        return await saturated.fan_out(server, saturated.FanOut(rooms=2, clients=4, writers=3, updates=60), limit=30)

    assert complete(once(scenario))


def test_the_open_loop_delivers_everything() -> None:
    """Every token that was due came to every client, and was timed."""

    async def scenario(server: Server) -> Outcome:
        return await open_loop.open_loop(server, rooms=2, clients=3, rate=20, warm=0.2, seconds=0.5, limit=30)

    outcome = once(scenario)
    assert complete(outcome)
    assert 0 < outcome.values["p50"] <= outcome.values["p99"]


def test_editors_get_everything_of_each_other() -> None:
    """Every edit of a user, and every cursor or a later one, comes to every other user of the room."""
    pace = editors.Pace(warm=0, seconds=1, limit=30)

    async def main() -> tuple[Outcome, Outcome]:
        async with running(OURS, None) as server:
            return await editors.work(server, 10, pace), await editors.work(server, 20, pace)

    first, second = asyncio.run(main())
    assert complete(first)
    assert complete(second)


@pytest.mark.parametrize(
    ("bound", "most", "found", "tried"),
    [
        (100, 800, 100, [25, 50, 100, 200]),
        (10, 800, 10, [25, 10]),
        (2, 800, 0, [25, 10, 5]),
        (800, 100, 100, [25, 50, 100]),
    ],
    ids=["doubled", "halved", "none", "no bound"],
)
def test_the_number_of_editors_is_the_largest_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, bound: int, most: int, found: int, tried: list[int]
) -> None:
    """Numbers are doubled until one is too many, or halved until one is not; what was measured first is reported."""
    seen: list[int] = []

    async def work(_: Server, users: int, __: editors.Pace) -> Outcome:
        seen.append(users)
        return Outcome({"p99": editors.BOUND * users / bound, "server_cpu": users, "arrived": 1})

    monkeypatch.setattr(editors, "work", work)
    server = cast(Server, None)
    outcome = asyncio.run(editors.doubled(server, users=25, most=most, pace=editors.Pace(1, 1, 1)))
    assert (outcome.values["users"], outcome.values["server_cpu"], seen) == (found, 25, tried)


def test_loads_with_drawn_ids_deliver_everything() -> None:
    """Each run with ids of its own delivers everything, and the spread is that of the runs."""

    async def scenario(server: Server) -> Outcome:
        return await saturated.drawn(server, saturated.FanOut(rooms=1, clients=4, writers=3, updates=30), 2, limit=30)

    outcome = once(scenario)
    assert complete(outcome)
    assert outcome.values["spread"] >= 1


def test_a_recording_ends_as_it_was_recorded() -> None:
    """The text that a reader puts together from what came is the recorded one."""
    recording = recorded("friendsforever", 500)
    if recording is None:
        pytest.skip("the recorded sessions are not in ../shared/data")

    async def scenario(server: Server) -> Outcome:
        return await saturated.replay(server, recording, 30)

    assert complete(once(scenario))


def test_a_long_session_ends_with_one_text() -> None:
    """Both clients, a newcomer and one after a restart have the same text."""
    if not (HERE / "node_modules" / "yjs").is_dir():
        pytest.skip("the clients in JavaScript are installed by `make bench` alone")

    async def scenario(server: Server) -> Outcome:
        return await session.long(server, edits=300, limit=30)

    assert complete(once(scenario))


def test_the_cost_of_a_shape_is_measured() -> None:
    """A small update of a bad shape is acknowledged, loaded and exported, and a health probe works meanwhile."""
    row = asyncio.run(expensive_updates.measure("one-place", 2000, 2, None))
    cells = dict(zip(expensive_updates.COLUMNS, row.cells, strict=True))
    assert cells["answer"] == "acknowledged"
    times = [cells[name].replace(",", "") for name in ("taken ms", "loaded ms", "export ms", "drained ms")]
    assert all(time.isdigit() for time in times), times


def test_the_cost_of_versions_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Versions of a small document are made, kept, listed and restored, and each has a row."""
    versions.main(["--versions", "2", "--edits", "100"])
    rows = capsys.readouterr().out.splitlines()[2:]
    names = ["the document", "one version", "2 versions", "to keep one", "to list them"]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[:-1]] == names
    assert rows[-1].startswith("| to restore it after half of it was deleted | an update of ")


def test_stored_rooms_reach_their_first_clients() -> None:
    """Clients get a stored document as a whole after a start, while a probe measures beside them."""
    seed = Seed(lambda: [(name, document(10_000, 20)) for name in opening.stored_rooms(3)])

    async def scenario(server: Server) -> Outcome:
        return await opening.many_rooms(server, rooms=3, limit=30)

    outcome = once(scenario, seed)
    assert complete(outcome)
    assert outcome.values["hold"] > 0


@pytest.mark.parametrize("peer", notifications.PEERS[:2], ids=lambda peer: peer.name)
def test_sends_are_found_again(peer: Peer) -> None:
    """All answered sends are in the inboxes, beside the notifications from before."""
    seed = Seed(lambda: notifications.filled(300), notifications.WRITERS)

    async def main() -> Outcome:
        async with running(peer, None, seed) as server:
            return await notification_load.saturated(server, users=notifications.users(300), seconds=1.0)

    outcome = asyncio.run(main())
    assert outcome.values["rate"] > 0
    assert outcome.values["found"] == 1


def test_every_send_comes_to_the_second_device() -> None:
    """In the open loop every token comes to the receivers."""

    async def main() -> Outcome:
        async with running(notifications.PEERS[0], None) as server:
            return await notification_load.delivery(server, rate=50, warm=0.2, seconds=0.5)

    assert asyncio.run(main()).values["found"] == 1


@pytest.mark.parametrize("name", ["ours", "picows"])  # those in JavaScript are installed by `make bench` alone
def test_relays_come_to_all(name: str) -> None:
    """Every signal and every message for a topic comes to all whom it is for, with other rooms beside."""
    peer = next(peer for peer in signaling.PEERS if peer.name == name)

    async def main() -> list[Outcome]:
        async with running(peer, None) as server:
            load = signaling_load.Load(2, 3, 20)
            outcomes = []
            if name in signaling.TOPICS:
                outcomes.append(await signaling_load.publish(server, load, 30))
            if name in signaling.ROOMS:
                outcomes.append(await signaling_load.signal(server, load._replace(members=2), 30, beside=2))
            return outcomes

    assert [outcome.values["arrived"] for outcome in asyncio.run(main())] in ([1.0], [1.0, 1.0])


def test_everybody_comes_back() -> None:
    """After a restart all connections are there again."""

    async def main() -> Outcome:
        async with running(signaling.PEERS[0], None) as server:
            return await signaling_load.herd(server, connections=50, within=0.2)

    assert asyncio.run(main()).values["arrived"] == 1


def test_departures_are_told_once() -> None:
    """In a short soak every departure is told exactly once."""
    one = asyncio.run(soak(0.03, 60, 1, None))
    assert one.faults == []
    assert one.ways.total() > 0


def test_rounds_are_kept(tmp_path: Path) -> None:
    """A later run continues with the rounds that were kept."""
    file = tmp_path / "rounds.json"
    results = Results.kept(file)
    results.outcomes["a load", "ours"] = [Outcome({"rate": 2.5}, ["LOST 1"]), Outcome()]
    results.seconds = 1.5
    results.keep()
    assert Results.kept(file) == results
    assert results.rounds == (2, 2)


def test_finished_scenarios_of_a_stopped_run_are_kept(tmp_path: Path) -> None:
    """Scenarios before the one in which a run ends are in the file."""
    file, cores = tmp_path / "rounds.json", os.sched_getaffinity(0)

    async def done(_: Server) -> Outcome:
        return Outcome({"rate": 1.0})

    async def stopped(_: Server) -> Outcome:
        raise asyncio.CancelledError

    scenarios = [Scenario(run.__name__, "", "", (), run) for run in (done, stopped)]
    try:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(rounds.run(scenarios, [OURS], 1, machine.cores(), Results.kept(file)))
    finally:
        os.sched_setaffinity(0, cores)
    assert Results.kept(file).outcomes == {("done", "ours"): [Outcome({"rate": 1.0})]}


def test_the_page_of_scenarios_names_every_scenario_and_peer() -> None:
    """The tables of scenarios.md have every scenario with its load, and every peer."""
    page = (HERE / "scenarios.md").read_text()
    scenarios = [*sync(quick=False), *signaling.scenarios(quick=False), *notifications.scenarios(quick=False)]
    peers = [*PEERS, *signaling.PEERS, *notifications.PEERS]
    for scenario in scenarios:
        assert f"| `{scenario.name}` | {scenario.title}" in page
    for peer in peers:
        assert f"| `{peer.name}` |" in page


def test_results_name_no_path_and_no_registry() -> None:
    """Results and lock file can be read anywhere."""
    written = [*HERE.glob("results/*.md"), HERE / "package-lock.json"]
    for path in written:
        text = path.read_text()
        assert str(HERE.parent) not in text
        assert '"resolved"' not in text


def test_the_loop_of_pairs_delivers_everything() -> None:
    """Every edit and signal of a pair arrives, and CPU is counted."""

    async def main(peer: Peer) -> across_instances.Figures:
        async with cluster.instances(peer, 1) as (one,):
            if peer is sync_server:
                pairs = [
                    await across_instances.edits(number, across_instances.Route(one, one, one), 30, f"r-{number}")
                    for number in (0, 1)
                ]
            else:
                pairs = [await across_instances.signals(number, one, one, 30, f"r-{number}") for number in (0, 1)]
            return await across_instances.open_loop(pairs, 20, lambda: cluster.Usage(server=[one.pid]))

    sync_server = cluster.sync()
    for peer in (sync_server, cluster.signaling()):
        figures = asyncio.run(main(peer))
        assert (figures.lost, figures.messages) == (0, 20)
        assert figures.cpu["server"] > 0
