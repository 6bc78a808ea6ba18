"""fly.toml says what Fly understands, and what the code does."""

import tomllib
from pathlib import Path
from typing import Any

from deployment import HEALTH, SERVERS, Server, believes_the_proxy, data_directory, every_server, load_settings


def fly(server: Server) -> dict[str, Any]:
    """Return what a server's fly.toml says."""
    return tomllib.loads((server.folder / "fly.toml").read_text())


@every_server
def test_fly_keeps_one_machine_and_drains(server: Server) -> None:
    """fly.toml names the port, keeps one machine awake, and lets the server drain on SIGTERM."""
    known = fly(server)
    assert known["app"] == server.folder.name
    assert known["primary_region"]
    assert known["kill_signal"] == "SIGTERM"
    assert server.drain < known["kill_timeout"] <= 300
    http = known["http_service"]
    assert http["internal_port"] == server.default("port")
    assert http["force_https"] is True
    assert http["auto_stop_machines"] == "off"
    assert http["auto_start_machines"] is False
    assert http["min_machines_running"] == 1


@every_server
def test_fly_admits_as_many_connections_as_the_server(server: Server) -> None:
    """Fly counts connections, and lets as many in as the server does."""
    limits = fly(server)["http_service"]["concurrency"]
    assert limits["type"] == "connections"
    assert limits["soft_limit"] < limits["hard_limit"] == server.default("max_connections")


@every_server
def test_fly_checks_health(server: Server) -> None:
    """Fly asks for health."""
    (check,) = fly(server)["http_service"]["checks"]
    assert check.keys() == {"grace_period", "interval", "method", "timeout", "path"}
    assert (check["method"], check["path"]) == ("GET", HEALTH)


@every_server
def test_fly_restarts_a_failed_server(server: Server) -> None:
    """Fly restarts a server however often it fails."""
    assert fly(server)["restart"] == [{"policy": "always"}]


@every_server
def test_fly_collects_metrics(server: Server) -> None:
    """Fly collects the metrics of each server."""
    known = fly(server)["metrics"]
    assert known == {"port": server.default("port"), "path": "/metrics"}


@every_server
def test_fly_grants_the_memory_of_the_defaults(server: Server) -> None:
    """On Fly, each server has the memory that its defaults are made for."""
    assert fly(server)["vm"] == [{"size": "shared-cpu-1x", "memory": "512mb"}]


@every_server
def test_fly_keeps_data_on_a_volume(server: Server) -> None:
    """On Fly, what a server keeps is on a volume; a server that keeps nothing has none."""
    known = fly(server)
    assert ("mounts" in known) == bool(server.data)
    if server.data:
        assert known["mounts"].keys() == {"source", "destination", "initial_size"}
        assert Path(known["mounts"]["destination"]) == data_directory(server)


@every_server
def test_fly_counts_clients_behind_its_proxy(server: Server) -> None:
    """On Fly, a limit for each address counts the clients of the host's proxy, and not the proxy."""
    assert believes_the_proxy(server, fly(server)["env"])


def test_fly_inboxes_have_owners() -> None:
    """On Fly, users authenticate before they read an inbox."""
    notification = SERVERS[-1]
    assert load_settings(notification, fly(notification)["env"]).auth == "github"
