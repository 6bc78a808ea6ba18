"""docker-compose.yml and its Caddyfile start the servers, bound and confine them, and keep their data."""

from importlib import import_module
from ipaddress import ip_address, ip_network
from pathlib import Path

from deployment import CADDY, ROOT, SERVERS, Server, compose, data_directory, every_server


def test_compose_starts_three_servers() -> None:
    """Without a profile, docker-compose.yml has the three servers, and it has no key that a generation refuses."""
    known = compose()
    assert {key for key in known if not key.startswith("x-")} == {"networks", "services", "volumes"}
    without = {name for name, service in known["services"].items() if "profiles" not in service}
    assert without == {server.name for server in SERVERS}


def test_compose_starts_the_playground_by_profile() -> None:
    """The playground starts with its profile only, and its server finds its files where they are in the repository."""
    service = compose()["services"]["playground"]
    assert service["profiles"] == ["playground"]
    assert service["ports"] == ["${BIND_ADDRESS:-0.0.0.0}:4447:4447"]
    assert service["command"] == ["python", "/app/playground/serve.py"]
    mounted = [volume.split(":") for volume in service["volumes"]]
    assert {(f"./{Path(inside).relative_to('/app')}", mode) for _, inside, mode in mounted} == {
        (outside, "ro") for outside, _, _ in mounted
    }
    assert all((ROOT / outside).is_dir() for outside, _, _ in mounted)


@every_server
def test_compose_builds_restarts_and_drains_each_server(server: Server) -> None:
    """A container is built from its folder, published on its own port, started again, drained, and its log bounded."""
    service = compose()["services"][server.name]
    port = server.default("port")
    assert (ROOT / service["build"]).resolve() == server.folder
    assert service["ports"] == [f"${{BIND_ADDRESS:-0.0.0.0}}:{port}:{port}"]
    assert service["restart"] == "unless-stopped"
    assert float(service["stop_grace_period"].removesuffix("s")) > server.drain
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} == service["logging"]["options"].keys()


def test_compose_trusts_caddy_alone() -> None:
    """The address that the servers trust is Caddy's, and Docker gives it to no other container and not to the host."""
    known = compose()
    assert known["services"]["caddy"]["networks"]["default"]["ipv4_address"] == CADDY
    ((network,),) = (known["networks"]["default"]["ipam"]["config"],)
    address = ip_address(CADDY)
    assert address in ip_network(network["subnet"])
    assert address not in ip_network(network["ip_range"])
    assert network["gateway"] != CADDY


@every_server
def test_compose_bounds_processes_and_memory(server: Server) -> None:
    """A container has a bound of processes, and of memory if the operator wants one."""
    service = compose()["services"][server.name]
    assert service["pids_limit"] > 0
    assert service["mem_limit"] == f"${{{server.name.upper()}_MEMORY:-0}}"


@every_server
def test_caddy_finds_each_server(server: Server) -> None:
    """Caddy finds each server under the name and the port that it has in the network of docker-compose.yml."""
    text = (ROOT / "deploy/Caddyfile").read_text()
    assert f"{{${server.name.upper()}:{server.name}:{server.default('port')}}}" in text


@every_server
def test_compose_keeps_data_in_named_volumes(server: Server) -> None:
    """The data of a server is in a named volume; a server without data has none."""
    known = compose()
    expected = [f"{server.name}:{data_directory(server)}"] if server.data else []
    assert known["services"][server.name].get("volumes", []) == expected
    assert (server.name in known["volumes"]) == bool(server.data)


@every_server
def test_compose_passes_settings_on(server: Server) -> None:
    """Compose takes all settings of the server from the shell or from .env, but for where it is and keeps its data."""
    environment = compose()["services"][server.name]["environment"]
    kind = import_module(f"{server.package}.settings").Settings
    assert {name.lower() for name in environment} == set(kind.__struct_fields__) - {"host", "port", server.data}
    # A name that two servers have means another number in each.
    prefixed = {name: f"${{{server.name.upper()}_{name}:-}}" for name in environment}
    own = {"LOG_FORMAT": "json", "TRUSTED_PROXIES": CADDY}
    defaults = {name: f"${{{name}:-{default}}}" for name, default in own.items()}
    assert all(value in (None, prefixed[name], defaults.get(name)) for name, value in environment.items())
    assert defaults.items() <= environment.items()


@every_server
def test_compose_confines_each_container(server: Server) -> None:
    """Each container runs on a root that it cannot write to, without privileges and without a way to get any."""
    service = compose()["services"][server.name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {volume.split(":")[1] for volume in service.get("volumes", ())} <= {"/data"}


def test_compose_gives_no_two_servers_the_same_number() -> None:
    """A setting of two servers that is no setting of all three is set for each by itself."""
    names = [
        name
        for service in (compose()["services"][server.name] for server in SERVERS)
        for name, value in service["environment"].items()
        if value is None
    ]
    assert {count for name in names if (count := names.count(name)) not in (1, 3)} == set()
