"""The load test: it says what it has seen of real servers, and begins only where their operator has agreed."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import notifications, servers, signaling
from .load.__main__ import main as load_test
from .load.deployment import PORTS, Endpoint, LoadTestError, Usage, endpoints
from .load.figures import Figures, Moment, server_table, verdict
from .load.plot import draw
from .servers import Peer, Server, running

ROOT = Path(__file__).parents[1]
SECRET = "a secret of 32 characters or more"  # noqa: S105
OURS: Mapping[str, Peer] = {
    "signaling": signaling.PEERS[0],
    "sync": servers.OURS,
    "notification": notifications.PEERS[0],
}
PLACES = ("PORT", "HOST", "PERSIST_DIR", "DB_FILE")
"""Settings of the bench's servers that are kept here; the limits are the servers' own defaults."""


class Done(NamedTuple):
    """A load test that has ended: its exit code, and what it wrote to standard output and standard error."""

    code: int
    report: str
    said: str


async def load(found: list[Server], *options: str, **environ: str) -> Done:
    """Run the load test of these servers as an operator does."""
    addresses = [f"--{name}=ws://127.0.0.1:{server.port}" for name, server in zip(PORTS, found, strict=True)]
    command = [sys.executable, "-m", "bench.load", *addresses, *options]
    environment = os.environ | environ
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(120):
        report, said = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, report.decode(), said.decode())


async def started(stack: AsyncExitStack, **settings: str) -> list[Server]:
    """Start the three servers with their own limits and these settings; a prefix is for one server alone."""
    found = []
    for name, peer in OURS.items():
        own = {key: value for key, value in peer.environment.items() if key in PLACES}
        for key, value in settings.items():
            prefix, _, rest = key.partition("_")
            if prefix.lower() not in OURS or prefix == name.upper():
                own[rest if prefix == name.upper() else key] = value
        found.append(await stack.enter_async_context(running(replace(peer, environment=own), None)))
    return found


async def health(server: Server) -> dict[str, Any]:
    """Return the answer of a server's ``/health``."""
    return await Endpoint("", f"ws://127.0.0.1:{server.port}").health()


def test_load_test_reports_all_that_people_wait_for() -> None:
    """People of two rooms see everything of each other, and their inboxes are empty afterwards."""

    async def main() -> tuple[Done, dict[str, Any]]:
        async with AsyncExitStack() as stack:
            found = await started(stack, ALLOW_LOAD_TEST="true")
            done = await load(found, "--users=7", "--minutes=0.05")
            return done, await health(found[2])

    done, after = asyncio.run(main())
    assert done.report.startswith(("Good: 7 people", "Slow with 7 people", "Unclear: This machine")), done
    assert "did not arrive" not in done.report
    assert (done.code == 0) == done.report.startswith("Good")
    for title in (
        "open three connections | 7 ",
        "see a cursor",
        "see an edit",
        "the answer to an offer",
        "a notification",
    ):
        assert title in done.report
    for name in PORTS:
        assert f"| {name} | metrics" not in done.report
    assert "cursors" in done.said
    assert after["notificationCount"] == 0


def test_plot_shows_waits_and_servers(tmp_path: Path) -> None:
    """The picture is drawn, also where nothing came and metrics could not be read."""
    pytest.importorskip("matplotlib", reason="needs matplotlib: make .venv/bench")
    usage = Usage(0.5, 40, 7, 0, 0)
    p99: tuple[dict[str, float | None], ...] = ({"cursor": None, "edit": 3.0}, {"cursor": 2.0, "edit": 4.0})
    moments = [Moment(at, {}, waits, dict.fromkeys(PORTS, usage)) for at, waits in enumerate(p99, 1)]
    draw(tmp_path / "load.png", [*moments, moments[0]._replace(seconds=3, usages=dict.fromkeys(PORTS))])
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")


def test_people_have_tokens_of_the_secret() -> None:
    """The secret of servers with authentication is the consent of their operator; another one is refused."""

    async def main() -> tuple[Done, Done, Done]:
        async with AsyncExitStack() as stack:
            found = await started(stack, AUTH="jwt", AUTH_SECRET=SECRET)
            options = ("--users=2", "--minutes=0.02")
            return (
                await load(found, *options, AUTH_SECRET=SECRET),
                await load(found, *options, AUTH_SECRET="another" * 8),
                await load(found, *options),
            )

    right, wrong, none = asyncio.run(main())
    assert "open three connections | 2 " in right.report
    assert "refused" not in right.report
    assert wrong.code == 1
    assert "refused" in wrong.report
    assert "see a cursor" not in wrong.report
    assert (none.code, none.report) == (2, "")
    assert "run the load test with its AUTH_SECRET" in none.said


def test_server_without_consent_gets_no_load() -> None:
    """One line names the server that does not allow load tests, and the setting; nobody connects to any."""

    async def main() -> tuple[Done, dict[str, Any]]:
        async with AsyncExitStack() as stack:
            found = await started(stack, SIGNALING_ALLOW_LOAD_TEST="true", NOTIFICATION_ALLOW_LOAD_TEST="true")
            return await load(found, "--users=2", "--minutes=0.02"), await health(found[0])

    done, after = asyncio.run(main())
    assert (done.code, done.report, done.said.count("\n")) == (2, "", 1)
    assert done.said.startswith("sync at ws://127.0.0.1:")
    assert "ALLOW_LOAD_TEST=true" in done.said
    assert after["metrics"]["totalConnections"] == 0


def test_refused_people_are_named() -> None:
    """Limits of a server that are too low for so many people are in the verdict, with the server's answer."""

    async def main() -> Done:
        async with AsyncExitStack() as stack:
            found = await started(stack, ALLOW_LOAD_TEST="true", SYNC_MAX_CONNECTIONS="2")
            return await load(found, "--users=3", "--minutes=0.02")

    done = asyncio.run(main())
    assert done.code == 1
    first, _, *reasons = done.report.split("\n")
    assert first.startswith(("Faulty with 3 people.", "Unclear: This machine")), done.report  # as fast as it is now
    assert any(each.startswith("* 1 times, a connection was refused: 503") for each in reasons), done.report


def test_endpoints_follow_the_target() -> None:
    """A target with TLS has the paths of the proxy, one without has the ports of the servers."""
    assert [one.url for one in endpoints("wss://noodl.example/", {})] == [
        "wss://noodl.example/signaling",
        "wss://noodl.example/sync",
        "wss://noodl.example/notifications",
    ]
    assert [one.url for one in endpoints("ws://localhost", {"sync": "ws://other:80/a/"})] == [
        "ws://localhost:4444",
        "ws://other:80/a",
        "ws://localhost:4446",
    ]


@pytest.mark.parametrize(
    "target", ["", "localhost", "https://noodl.example", "ws://localhost:4444", "wss://", "wss://[::1", "wss://h:x"]
)
def test_unusable_target_is_named(target: str) -> None:
    """An address that names no deployment is refused with what is accepted."""
    with pytest.raises(LoadTestError, match=re.escape(f"TARGET is '{target}'; accepted is wss://HOST")):
        endpoints(target, {})


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--users=1", "at least 2 users"),
        ("--minutes=nan", "more than 0 minutes"),
        ("--minutes=inf", "more than 0 minutes"),
        ("--plot=missing/plot.png", "the directory of missing/plot.png does not exist"),
    ],
)
def test_unusable_options_end_before_the_load(
    option: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options with which no load test can be run, or none be drawn, are refused at once."""
    monkeypatch.setattr(sys, "argv", ["load", "ws://localhost", option])
    with pytest.raises(SystemExit) as ended:
        load_test()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def measured(**waits: float) -> Figures:
    """Return figures in which everything took a millisecond, unless other seconds are given."""
    figures = Figures(lags=[0.001])
    for name, found in figures.waits.items():
        found.append(waits.get(name, 0.001))
    return figures


def test_verdict_is_good_within_the_bounds() -> None:
    """All that came in time is good."""
    assert verdict(measured(), 5) == (True, ["Good: 5 people can work at the same time."])


def test_verdict_names_what_is_slow() -> None:
    """A wait beyond its bound is slow, and no fault."""
    good, sentences = verdict(measured(cursor=0.2), 5)
    assert not good
    assert sentences == ["Slow with 5 people.", "To see a cursor move took 200 ms at p99; 100 ms are good."]


def test_verdict_names_what_was_lost() -> None:
    """A lost message is a fault, however fast the other messages were."""
    figures = measured()
    figures.lost["edit"] = 3
    figures.ended["sync, close code 1013"] = 1
    good, sentences = verdict(figures, 5)
    assert not good
    assert sentences == [
        "Faulty with 5 people.",
        "1 connections ended: sync, close code 1013.",
        "3 did not arrive: see an edit.",
    ]


def test_verdict_is_unclear_where_the_generator_is_late() -> None:
    """A machine that could not send in time has measured itself."""
    figures = measured(cursor=0.2)
    figures.lags = [0.5]
    good, sentences = verdict(figures, 5)
    assert not good
    assert sentences[0].startswith("Unclear: This machine sent its messages up to 500 ms late")


@pytest.mark.parametrize("readable", [True, False])
def test_unreadable_metrics_are_explained(readable: bool) -> None:
    """Where a server's metrics could not be read, the report says that a proxy may refuse them; else it does not."""
    seen = Usage(1.0, 2.0, 3.0, 4.0, 5.0) if readable else None
    moments = [Moment(second, {}, {}, {"sync": seen}) for second in (0.0, 1.0)]
    explained = "A proxy may refuse `/metrics`, as Caddy does with `--profile tls`."
    assert (explained in server_table(moments, ["sync"])) is not readable
