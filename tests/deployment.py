"""Helpers of the tests of the deploy files: the servers, their images, and docker-compose.yml."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from websockets.datastructures import Headers

ROOT = Path(__file__).parent.parent
HEALTH = "/health"


class Server(NamedTuple):
    """A server and the setting that says where its data is, if it has any."""

    name: str
    data: str | None

    @property
    def package(self) -> str:
        """The package that is run."""
        return f"opennoodl_{self.name}"

    @property
    def folder(self) -> Path:
        """Where everything of this server is."""
        return ROOT / f"opennoodl-{self.name}-server"

    def default(self, setting: str) -> Any:
        """Return the default of a setting."""
        kind = import_module(f"{self.package}.settings").Settings
        return next(field.default for field in msgspec.structs.fields(kind) if field.name == setting)

    @property
    def drain(self) -> float:
        """Seconds that clients have to leave; the platform must give more."""
        seconds: float = import_module(f"{self.package}.edge.service").DRAIN_TIMEOUT
        return seconds


SERVERS = [Server("signaling", None), Server("sync", "persist_dir"), Server("notification", "db_file")]
WITH_DATA = [server for server in SERVERS if server.data]
every_server = pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
every_server_with_data = pytest.mark.parametrize("server", WITH_DATA, ids=lambda server: server.name)


class Dockerfile:
    """The instructions of a Dockerfile, each a keyword and the rest."""

    def __init__(self, server: Server) -> None:
        text = re.sub(r"^#.*\n", "", (server.folder / "Dockerfile").read_text(), flags=re.MULTILINE)
        lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
        self.instructions = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]
        last = max(i for i, (keyword, _) in enumerate(self.instructions) if keyword == "FROM")
        self.build, self.image = self.instructions[:last], self.instructions[last:]

    def __getitem__(self, keyword: str) -> str:
        (only,) = (rest for found, rest in self.image if found == keyword)
        return only

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that the image sets."""
        return dict(pair.split("=", 1) for pair in self["ENV"].split())


def data_directory(server: Server) -> Path:
    """Return where the image of a server keeps its data."""
    assert server.data is not None
    path = Path(Dockerfile(server).environment[server.data.upper()])
    return path if server.data == "persist_dir" else path.parent


def load_settings(server: Server, environment: dict[str, str]) -> Any:
    """Return the settings of a server in an environment."""
    settings = import_module(f"{server.package}.settings").Settings
    return import_module(f"{server.package}.edge.settings").load(settings, environment)


def believes_the_proxy(server: Server, environment: dict[str, str]) -> bool:
    """Return whether a server in an environment takes the client's address from the header of the host's proxy."""
    addresses = import_module(f"{server.package}.edge.admission.client_address").ClientAddresses
    settings = load_settings(server, environment)
    return all(
        addresses(settings).client(peer, Headers({settings.client_ip_header: client})) == client
        for peer, client in (("172.16.3.4", "192.0.2.1"), ("fdaa::3", "2001:db8::1"))
    )


CADDY = "172.30.44.2"
"""The address of Caddy in the network of docker-compose.yml."""


def compose() -> dict[str, Any]:
    """Return what docker-compose.yml says, anchors resolved."""
    known: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return known
