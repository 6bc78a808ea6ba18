"""render.yaml says what Render understands, and what the code does."""

from pathlib import Path
from typing import Any

import yaml
from deployment import (
    HEALTH,
    ROOT,
    SERVERS,
    Server,
    believes_the_proxy,
    data_directory,
    every_server,
    load_settings,
)


def render(server: Server) -> dict[str, Any]:
    """Return the service of a server's render.yaml."""
    (service,) = yaml.safe_load((server.folder / "render.yaml").read_text())["services"]
    return service  # type: ignore[no-any-return]


def environment(server: Server) -> dict[str, str]:
    """Return the variables that a server has on Render."""
    return {pair["key"]: pair["value"] for pair in render(server)["envVars"]}


@every_server
def test_render_builds_checks_and_drains(server: Server) -> None:
    """render.yaml builds the Dockerfile, asks for health, lets the server drain, and does not let it sleep."""
    service = render(server)
    assert (service["type"], service["runtime"], service["name"]) == ("web", "docker", server.folder.name)
    assert "rootDir" not in service, "the folder is a repository of its own"
    assert (server.folder / service["dockerfilePath"]).is_file()
    assert (server.folder / service["dockerContext"]).resolve() == server.folder
    assert service["healthCheckPath"] == HEALTH
    assert service["plan"] != "free"
    assert server.drain < service["maxShutdownDelaySeconds"] <= 300


def test_render_blueprint_has_all_servers() -> None:
    """The Blueprint at the top has the service of each folder, with the folder as its root."""
    services = yaml.safe_load((ROOT / "render.yaml").read_text())["services"]
    own = [render(server) for server in SERVERS]
    assert services == [{**service, "rootDir": service["name"]} for service in own]


@every_server
def test_render_keeps_data_on_a_disk(server: Server) -> None:
    """On Render, what a server keeps is on a disk; a server that keeps nothing has none."""
    service = render(server)
    assert ("disk" in service) == bool(server.data)
    if server.data:
        assert service["disk"].keys() == {"name", "mountPath", "sizeGB"}
        assert Path(service["disk"]["mountPath"]) == data_directory(server)


@every_server
def test_render_counts_clients_behind_its_proxy(server: Server) -> None:
    """On Render, a limit for each address counts the clients of the host's proxy, and not the proxy."""
    assert believes_the_proxy(server, environment(server))


def test_render_inboxes_have_owners() -> None:
    """On Render, users authenticate before they read an inbox."""
    notification = SERVERS[-1]
    assert load_settings(notification, environment(notification)).auth == "github"
