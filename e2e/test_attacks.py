"""The servers under attack: what the attacker gets, that honest clients work on, and that nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from attacks import ATTACKS, KINDS, Attack, issuer
from attacks.honest import PAIRS, Pair
from attacks.raw import Target
from attacks.vitals import Vitals, vitals
from harness import Server, environment

TRIPS = 5
"""Round trips of honest clients that each attack goes on for at least."""
SLACK = 80.0
"""MiB that a server may have more after an attack than before the first: its allocator keeps some for the next."""
PATIENCE = 30.0
SETTINGS = {"MAX_ROOMS": 200, "MAX_DOCUMENT_SIZE": 4_194_304, "ROOM_IDLE_TIMEOUT": 100}
"""Bounds that an attack comes to sooner than to those that the servers have by themselves."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Place(NamedTuple):
    """A server, honest clients on it, and what it uses with them alone."""

    kind: str
    guarded: bool
    server: Server
    pair: Pair
    rest: Vitals

    @classmethod
    async def prepare(cls, kind: str, data: Path, **settings: object) -> Place:
        """Start a server and let honest clients work on it."""
        server = Server(f"opennoodl_{kind}", data, environment(data, **settings))
        await server.start()
        guarded = "AUTH" in settings
        pair = await PAIRS[kind].open(server.port, proven=guarded)
        await pair.trip()
        pair.work()
        return cls(kind, guarded, server, pair, await vitals(server.pid, server.port))

    async def withstand(self, attack: Attack, target: Target) -> set[str]:
        """Attack until honest clients have done enough meanwhile, and others could come; return what it got."""
        got: set[str] = set()
        begun = len(self.pair.times)
        while len(self.pair.times) - begun < TRIPS:
            given, _ = await asyncio.gather(attack.act(target), self.pair.more(1))
            got.update(given)
        newcomers = await PAIRS[self.kind].open(self.server.port, proven=self.guarded)
        await newcomers.trip()
        await newcomers.close()
        return got

    async def recover(self) -> None:
        """Wait until connections, files and tasks are as they were; memory, too, is as it was, but for some slack."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    now = await vitals(self.server.pid, self.server.port)
                    if now[1:] == self.rest[1:]:
                        break
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.rest} at rest, and {now} after the attack") from None
        assert now.memory < self.rest.memory + SLACK

    async def close(self) -> None:
        """End everything."""
        try:
            await self.pair.close()
        finally:
            await self.server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Run one server for all its quick attacks, or for those on its authentication."""
    kind, guarded = request.param
    settings = SETTINGS | (issuer.SETTINGS if guarded else {})
    place = await Place.prepare(kind, tmp_path_factory.mktemp("attacks"), **settings)
    yield place
    await place.close()


def target(place: Place, attack: Attack, *, whole: bool) -> Target:
    """Return what is attacked, from an address of the attack's own."""
    number = ATTACKS.index(attack)
    return Target(place.kind, place.server.port, f"127.0.1.{number}", whole)


@pytest.mark.parametrize(
    ("place", "attack"),
    [
        pytest.param((kind, guarded), attack, id=f"{kind}-{attack.name}")
        for kind in KINDS
        for guarded in (False, True)
        for attack in ATTACKS
        if kind in attack.gets and attack.auth is guarded and not attack.slow
    ],
    indirect=["place"],
)
async def test_attack(place: Place, attack: Attack, request: pytest.FixtureRequest) -> None:
    """The attacker gets what the attack says, honest clients work meanwhile, and nothing is left of it."""
    got = await place.withstand(attack, target(place, attack, whole=request.config.getoption("--whole")))
    assert got
    assert got <= attack.gets[place.kind]
    await place.recover()
    assert not place.server.complaints


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow_ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[tuple[str, str], set[str]]]:
    """Do all slow attacks on all servers at once, since each waits; return what they were met with."""
    ends: dict[tuple[str, str], set[str]] = {}
    async with AsyncExitStack() as stack:
        places = [await Place.prepare(kind, tmp_path_factory.mktemp(kind), HEARTBEAT_INTERVAL=3000) for kind in KINDS]
        for place in places:
            stack.push_async_callback(place.close)

        async def withstand(place: Place, attack: Attack) -> None:
            ends[place.kind, attack.name] = await place.withstand(attack, target(place, attack, whole=False))

        async with asyncio.TaskGroup() as group:
            for place in places:
                for attack in ATTACKS:
                    if attack.slow and place.kind in attack.gets:
                        group.create_task(withstand(place, attack))
        for place in places:
            await place.recover()
        yield ends


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.slow], ids=lambda attack: attack.name)
async def test_slow_attack(slow_ends: dict[tuple[str, str], set[str]], attack: Attack, kind: str) -> None:
    """The attacker gets what the attack says; honest clients worked meanwhile, and nothing was left of it."""
    assert slow_ends[kind, attack.name]
    assert slow_ends[kind, attack.name] <= attack.gets[kind]


async def test_security() -> None:
    """SECURITY.md has the row of every attack, and no others."""
    text = (Path(__file__).parents[1] / "SECURITY.md").read_text()
    section = text.split("## What was tried\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert rows == [attack.row for attack in ATTACKS]
