"""deploy/monitoring in a real Prometheus and Alertmanager, which watch real servers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import HERE, PATIENCE, Process, Server, StartServer
from reverse_proxies import free_port

MONITORING = HERE.parent / "deploy/monitoring"
PROGRAMS = ("prometheus", "prometheus-alertmanager")

pytestmark = [
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)),
        reason="needs Prometheus: apt-get install prometheus prometheus-alertmanager",
    ),
    pytest.mark.xdist_group("monitoring"),
]


class Program(Process):
    """Prometheus or Alertmanager."""

    def __init__(self, name: str, folder: Path, port: int, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(name, [name, f"--web.listen-address=127.0.0.1:{port}", *arguments], folder)

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        await self._start(stdin=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(PATIENCE):
            while True:
                assert self.running, self.tail()
                try:
                    await asyncio.to_thread(urllib.request.urlopen, f"{self.url}/-/ready")
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def get(self, path: str, **query: str) -> Any:
        """Return what its interface answers."""

        def get() -> Any:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}") as answer:  # noqa: S310
                return json.load(answer)

        return await asyncio.to_thread(get)

    async def close(self) -> None:
        """End it after a test."""
        if self.running:
            await self._end(signal.SIGTERM, PATIENCE)


Watch = Callable[[dict[str, Server]], Awaitable[tuple[Program, Program]]]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    """Start Prometheus and Alertmanager for some servers; they look every second, and alerts do not wait."""
    programs: list[Program] = []

    async def start(servers: dict[str, Server]) -> tuple[Program, Program]:
        ports = free_port(), free_port()
        configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[1]}"]
        for target in configuration["scrape_configs"][0]["static_configs"]:
            target["targets"] = [f"127.0.0.1:{servers[target['labels']['server']].port}"]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        rules = (MONITORING / "alerts.yml").read_text()
        (tmp_path / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
        alertmanager = (MONITORING / "alertmanager.yml").read_text().replace("group_wait: 30s", "group_wait: 1s")
        (tmp_path / "alertmanager.yml").write_text(alertmanager)
        programs.append(
            Program(
                *("prometheus", tmp_path, ports[0], f"--config.file={tmp_path / 'prometheus.yml'}"),
                f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            )
        )
        programs.append(
            Program(
                *("prometheus-alertmanager", tmp_path, ports[1], f"--config.file={tmp_path / 'alertmanager.yml'}"),
                *(f"--storage.path={tmp_path / 'alertmanager'}", "--cluster.listen-address="),
            )
        )
        await asyncio.gather(*(program.start() for program in programs))
        return programs[0], programs[1]

    yield start
    for program in programs:
        await program.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something that is asked for is so."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def all_servers(server: StartServer) -> dict[str, Server]:
    """Start the three servers."""
    kinds = ("signaling", "sync", "notification")
    return dict(zip(kinds, await asyncio.gather(*map(server, kinds)), strict=True))


def queries() -> dict[str, str]:
    """Return all queries of the rules and of the dashboard by what asks."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    dashboard = json.loads((MONITORING / "grafana/dashboards/opennoodl.json").read_text())
    shown = {
        f"{panel['id']} {panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    return {rule["alert"]: rule["expr"] for rule in rules} | shown


async def test_prometheus_evaluates_every_query(server: StartServer, watch: Watch) -> None:
    """Prometheus can evaluate every query, and every metric of ours in them is scraped from a server."""
    prometheus, _ = await watch(await all_servers(server))

    async def scraped() -> bool:
        found = await prometheus.get("/api/v1/query", query='count(opennoodl_build_info{job="opennoodl"})')
        return [entry["value"][1] for entry in found["data"]["result"]] == ["3"]

    await until(scraped)
    names = set((await prometheus.get("/api/v1/metadata"))["data"])
    for asks, query in queries().items():
        answer = await prometheus.get("/api/v1/query", query=query)
        assert answer["status"] == "success", asks
        asked = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b(?:opennoodl|process)_\w+", query)}
        assert asked - names == set(), asks


async def test_a_killed_server_raises_and_ends_an_alert(server: StartServer, watch: Watch) -> None:
    """When a server is killed, Alertmanager is told of it, and of the end when the server is back."""
    servers = await all_servers(server)
    _, alertmanager = await watch(servers)

    async def names() -> list[tuple[str, str]]:
        found = await alertmanager.get("/api/v2/alerts", active="true")
        return [(alert["labels"]["alertname"], alert["labels"]["server"]) for alert in found]

    await servers["sync"].kill()

    async def fires() -> bool:
        return ("ServerDown", "sync") in await names()

    async def ended() -> bool:
        return ("ServerDown", "sync") not in await names()

    await until(fires)
    await servers["sync"].restart()
    await until(ended)
