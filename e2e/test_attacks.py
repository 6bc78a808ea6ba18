"""The servers under attack: what the attacker gets, that honest clients work on, and that nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from attacks import ATTACKS, KINDS, Attack
from attacks.honest_clients import PAIRS, PAUSE, Pair
from attacks.raw_connection import Target
from attacks.resource_usage import ResourceUsage, resource_usage
from attacks.setups import Setup, prepare_setup
from harness import Server, environment

TRIPS = 3
"""Round trips of honest clients that each attack goes on for at least."""
ROUNDS = 10
"""Rounds after which an attack that has not exceeded its bound never will: most bounds refill with time."""
SLACK = 80.0
"""MiB that a server may have more after an attack than before the first: its allocator keeps some for the next."""
PATIENCE = 120.0
"""Seconds in which a server has to be at rest again; what it compacts takes some of them on a busy machine."""
SETUPS = ("open", "tls", "jwt", "github")
SETTINGS = {
    "HANDSHAKE_RATE_LIMIT": 10,
    "MAX_CONNECTIONS_PER_IP": 90,
    "MAX_ROOMS": 50,
    "MAX_DOCUMENT_SIZE": 4_194_304,
    "ROOM_IDLE_TIMEOUT": 100,
}
"""Bounds that an attack comes to sooner than to those that the servers have by themselves, on a slow machine, too."""
PAGES = ("attacks.md", "attacks-messages.md")
"""The pages of docs/ with tables of attacks."""
HEAD = "| attack | servers | method | received by the attacker |"
PROGRAM = """
from {package} import __main__ as program
from {package}.edge.admission import refusal_delay
from {package}.edge.http import routes
routes.METRICS_AGE = 0  # what is measured after an attack must be of that moment, and not a second old
refusal_delay.FIRST, refusal_delay.LONGEST = 0.05, 0.2  # an attack comes again at once, in order to be refused again
program.main()
"""
"""How the servers are started."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


class AttackedServer(NamedTuple):
    """A server, honest clients on it, and what it uses with them alone."""

    kind: str
    setup: Setup
    server: Server
    pair: Pair
    rest: ResourceUsage

    @classmethod
    async def prepare(
        cls, kind: str, setup: Setup, data: Path, pause: float = PAUSE, **settings: object
    ) -> AttackedServer:
        """Start a server and let honest clients work on it, with a pause after each round trip."""
        server = Server(f"opennoodl_{kind}", data, environment(data, **setup.settings, **settings))
        server.run(PROGRAM.format(package=server.name))
        await server.start()
        pair = await PAIRS[kind].open(server.port, setup)
        await pair.trip()
        pair.work(pause)
        return cls(kind, setup, server, pair, await resource_usage(server.pid, server.port, setup.tls))

    async def withstand(self, attack: Attack, target: Target) -> set[str]:
        """Attack beyond its bound, and until honest clients have done enough and others could connect.

        Returns:
            what the attack got.
        """
        got: set[str] = set()
        begun, number = len(self.pair.times), 0
        while len(self.pair.times) - begun < TRIPS or (number < ROUNDS and not attack.exceeds_bound(self.kind, got)):
            number += 1  # each round is from an address of its own, with all that an address may do
            each = target._replace(address=f"127.0.{number}.{ATTACKS.index(attack)}")
            given, _ = await asyncio.gather(attack.act(each), self.pair.more(1))
            got.update(given)
        newcomers = await PAIRS[self.kind].open(self.server.port, self.setup)
        await newcomers.trip()
        await newcomers.close()
        return got

    async def recover(self) -> None:
        """Wait until connections, files and tasks are as they were; memory, too, is as it was, but for some slack."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    now = await resource_usage(self.server.pid, self.server.port, self.setup.tls)
                    if now[1:] == self.rest[1:] and now.memory < self.rest.memory + SLACK:
                        break
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.rest} at rest, and {now} after the attack") from None

    async def close(self) -> None:
        """End everything."""
        try:
            await self.pair.close()
        finally:
            await self.server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AttackedServer]:
    """Run one server for all its quick attacks through one setup."""
    kind, name = request.param
    folder = tmp_path_factory.mktemp("attacks")
    async with prepare_setup(name, folder) as setup:
        attacked = await AttackedServer.prepare(kind, setup, folder, **SETTINGS)
        yield attacked
        await attacked.close()


def target(attacked: AttackedServer, *, whole: bool) -> Target:
    """Return what is attacked."""
    return Target(attacked.kind, attacked.server.port, whole=whole, tls=attacked.setup.tls)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Do quick attacks through the setups that they are meant for; whole, all that need no token over TLS as well."""
    if metafunc.function is not test_attack_is_repelled_while_honest_clients_work:
        return
    whole = metafunc.config.getoption("--whole")
    cases = [
        pytest.param(
            *((kind, setup), attack),
            id=f"{setup}-{kind}-{attack.name}",
            marks=pytest.mark.xdist_group(f"{setup}-{kind}"),
        )
        for setup in SETUPS
        for kind in KINDS
        for attack in ATTACKS
        if kind in attack.gets and not attack.slow
        if setup in attack.setups or (whole and setup == "tls" and "open" in attack.setups)
    ]
    metafunc.parametrize(
        ("attacked", "attack"), cases, indirect=["attacked"], scope="module"
    )  # also that of `attacked`


async def test_attack_is_repelled_while_honest_clients_work(
    attacked: AttackedServer, attack: Attack, request: pytest.FixtureRequest
) -> None:
    """The attacker gets what the attack says, honest clients work meanwhile, and nothing is left of it."""
    got = await attacked.withstand(attack, target(attacked, whole=request.config.getoption("--whole")))
    attack.check(attacked.kind, got)
    await attacked.recover()
    assert not attacked.server.complaints


SLOW = [
    (setup, kind, attack)
    for setup in SETUPS
    for kind in KINDS
    for attack in ATTACKS
    if kind in attack.gets and setup in attack.setups and attack.slow
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow_ends(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], set[str]]:
    """Do all slow attacks on all servers at once, since each waits; return what they were met with."""
    ends: dict[tuple[str, str, str], set[str]] = {}
    async with AsyncExitStack() as stack:
        all_attacked: dict[tuple[str, str], AttackedServer] = {}
        for name in SETUPS:
            folder = tmp_path_factory.mktemp(name)
            setup = await stack.enter_async_context(prepare_setup(name, folder))
            for kind in sorted({kind for where, kind, _ in SLOW if where == name}):
                data = tmp_path_factory.mktemp(kind)
                all_attacked[name, kind] = await AttackedServer.prepare(
                    kind, setup, data, 0.5, HEARTBEAT_INTERVAL=10_000
                )
                stack.push_async_callback(all_attacked[name, kind].close)

        async def withstand(setup: str, kind: str, attack: Attack) -> None:
            attacked = all_attacked[setup, kind]
            ends[setup, kind, attack.name] = await attacked.withstand(attack, target(attacked, whole=False))

        async with asyncio.TaskGroup() as group:
            for each in SLOW:
                group.create_task(withstand(*each))
        for attacked in all_attacked.values():
            await attacked.recover()
    return ends


@pytest.mark.xdist_group("slow-attacks")
@pytest.mark.parametrize(("setup", "kind", "attack"), SLOW, ids=lambda each: getattr(each, "name", each))
async def test_slow_attack_is_repelled_while_honest_clients_work(
    slow_ends: dict[tuple[str, str, str], set[str]], setup: str, kind: str, attack: Attack
) -> None:
    """The attacker gets what the attack says; honest clients worked meanwhile, and nothing was left of it."""
    attack.check(kind, slow_ends[setup, kind, attack.name])


async def test_table_of_attacks() -> None:
    """The pages of attacks have one row for each attack, and no others."""
    docs = Path(__file__).parents[1] / "docs"
    tables = [table for page in PAGES for table in (docs / page).read_text().split(f"{HEAD}\n")[1:]]
    rows = [line for table in tables for line in table.split("\n\n")[0].splitlines()[1:]]
    assert sorted(rows) == sorted(attack.row for attack in ATTACKS)
