"""The deploy files say what the platforms understand, and what the code does."""

import json
import re
import tomllib
from importlib import import_module
from ipaddress import ip_address, ip_network
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
        """What the image sets."""
        return dict(pair.split("=", 1) for pair in self["ENV"].split())


def data_directory(server: Server) -> Path:
    """Return where the image of a server keeps its data."""
    assert server.data is not None
    path = Path(Dockerfile(server).environment[server.data.upper()])
    return path if server.data == "persist_dir" else path.parent


@every_server
def test_image_starts_server(server: Server) -> None:
    """The image starts python itself, which therefore is what SIGTERM reaches."""
    dockerfile = Dockerfile(server)
    assert json.loads(dockerfile["CMD"]) == ["python", "-m", server.package]
    assert dockerfile["STOPSIGNAL"] == "SIGTERM"


@every_server
def test_server_accepts_the_settings_of_its_image(server: Server) -> None:
    """The server accepts the settings of its image."""
    module = import_module(f"{server.package}.settings")
    environment = Dockerfile(server).environment
    assert environment["LOG_FORMAT"] == "json"
    settings = import_module(f"{server.package}.edge.settings").load(module.Settings, environment)
    assert settings.log_format == "json"


@every_server
def test_image_exposes_the_default_port(server: Server) -> None:
    """The image exposes the server's default port, and leaves PORT to the platform."""
    dockerfile = Dockerfile(server)
    assert dockerfile["EXPOSE"] == str(server.default("port"))
    assert "PORT" not in dockerfile.environment


@every_server
def test_image_checks_health_with_python_alone(server: Server) -> None:
    """The health check asks on PORT, or else on the default port, and needs no tool but python."""
    options, command = Dockerfile(server)["HEALTHCHECK"].split(" CMD ")
    python, _, code = json.loads(command)
    assert python == "python"
    assert f"os.environ.get('PORT') or {server.default('port')}" in code
    assert f"'{HEALTH}'" in code
    assert "--timeout=5s" in options
    compile(code, "HEALTHCHECK", "exec")


@every_server
def test_image_does_not_run_as_root(server: Server) -> None:
    """The image does not run as root, and says so in numbers."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", Dockerfile(server)["USER"])


@every_server
def test_image_caches_its_dependencies(server: Server) -> None:
    """A change of code does not install the dependencies again, and no compiler is in the image."""
    dockerfile = Dockerfile(server)
    steps = [f"{keyword} {rest}" for keyword, rest in dockerfile.build]
    dependencies = next(i for i, step in enumerate(steps) if "--requirement" in step)
    assert dependencies < steps.index("COPY . .")
    assert not any("g++" in rest for _, rest in dockerfile.image)


@every_server
def test_image_declares_no_volume(server: Server) -> None:
    """No image has a VOLUME instruction, with which Railway refuses to build it."""
    assert "VOLUME" not in {keyword for keyword, _ in Dockerfile(server).instructions}


@every_server_with_data
def test_image_owns_its_data_directory(server: Server) -> None:
    """The data directory belongs to the user that the server runs as."""
    dockerfile = Dockerfile(server)
    directory = data_directory(server)
    assert ("RUN", f"mkdir {directory} && chown {dockerfile['USER']} {directory}") in dockerfile.image


@every_server
def test_build_context_has_only_named_files(server: Server) -> None:
    """Nothing gets into an image that is not named."""
    lines = (server.folder / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern for pattern in patterns if pattern.startswith("!")} == {
        "!pyproject.toml",
        "!README.md",
        "!requirements.lock",
        f"!{server.package}",
    }


CADDY = "172.30.44.2"
"""The address of Caddy in the network of docker-compose.yml."""


def compose() -> dict[str, Any]:
    """Return what docker-compose.yml says, anchors resolved."""
    known: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return known


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
def test_railway_builds_checks_and_drains(server: Server) -> None:
    """railway.json builds the Dockerfile, asks for health, and lets the server drain."""
    known = json.loads((server.folder / "railway.json").read_text())
    assert known["$schema"] == "https://railway.com/railway.schema.json"
    assert known["build"]["builder"] == "DOCKERFILE"
    assert (server.folder / known["build"]["dockerfilePath"]).is_file()
    deploy = known["deploy"]
    assert deploy["healthcheckPath"] == HEALTH
    assert deploy["restartPolicyType"] == "ON_FAILURE"
    for key in ("healthcheckTimeout", "restartPolicyMaxRetries", "drainingSeconds"):
        assert isinstance(deploy[key], int), f"Railway refuses {key} if it is not a number"
    assert deploy["drainingSeconds"] > server.drain


@every_server
def test_render_builds_checks_and_drains(server: Server) -> None:
    """render.yaml builds the Dockerfile, asks for health, lets the server drain, and does not let it sleep."""
    (service,) = yaml.safe_load((server.folder / "render.yaml").read_text())["services"]
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
    own = [yaml.safe_load((server.folder / "render.yaml").read_text())["services"][0] for server in SERVERS]
    assert services == [{**service, "rootDir": service["name"]} for service in own]


@every_server
def test_render_keeps_data_on_a_disk(server: Server) -> None:
    """On Render, what a server keeps is on a disk; a server that keeps nothing has none."""
    (service,) = yaml.safe_load((server.folder / "render.yaml").read_text())["services"]
    assert ("disk" in service) == bool(server.data)
    if server.data:
        assert service["disk"].keys() == {"name", "mountPath", "sizeGB"}
        assert Path(service["disk"]["mountPath"]) == data_directory(server)


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


def deployed(server: Server) -> list[Any]:
    """Return the settings that a server has on Fly and on Render."""
    (service,) = yaml.safe_load((server.folder / "render.yaml").read_text())["services"]
    settings = import_module(f"{server.package}.settings")
    load = import_module(f"{server.package}.edge.settings").load
    environments = (fly(server)["env"], {pair["key"]: pair["value"] for pair in service["envVars"]})
    return [load(settings.Settings, environment) for environment in environments]


@every_server
def test_deployed_behind_a_proxy(server: Server) -> None:
    """On hosts that put a proxy before the server, what is bounded for each address is not bounded for all as one."""
    module = import_module(f"{server.package}.edge.admission.client_address")
    for settings in deployed(server):
        for peer, client in (("172.16.3.4", "192.0.2.1"), ("fdaa::3", "2001:db8::1")):
            said = Headers({settings.client_ip_header: client})
            assert module.ClientAddresses(settings).client(peer, said) == client


def test_deployed_inboxes_have_owners() -> None:
    """A deploy button requires users to authenticate before they read an inbox."""
    assert [settings.auth for settings in deployed(SERVERS[-1])] == ["github", "github"]


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
def test_procfile_starts_every_server(server: Server) -> None:
    """`make up` starts every server, with its data below ./data."""
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert lines.keys() == {server.name for server in SERVERS} | {"playground"}
    environment, _, command = lines[server.name].rpartition("exec ")
    assert command == f"python -m {server.package}"
    variables = dict(pair.split("=", 1) for pair in environment.split())
    assert list(variables) == ([server.data.upper()] if server.data else [])
    assert all(value.startswith("./data/") for value in variables.values())


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


def scaled() -> dict[str, Any]:
    """Return deploy/scale.yml."""
    return yaml.safe_load((ROOT / "deploy/scale.yml").read_text())  # type: ignore[no-any-return]


@every_server
def test_scale_has_two_instances_behind_the_balancer(server: Server) -> None:
    """The balancer of deploy/scale.yml knows both instances of each server, and publishes their port."""
    services = scaled()["services"]
    port = server.default("port")
    own = [name for name in services if name.startswith(f"{server.name}-")]
    assert services["balancer"]["environment"][server.name.upper()] == " ".join(f"{name}:{port}" for name in own)
    assert f"${{BIND_ADDRESS:-0.0.0.0}}:{port}:{port}" in services["balancer"]["ports"]
    assert len(own) == 2
    assert services[own[0]] == services[own[1]]


@every_server
def test_scale_confines_each_container_as_one_instance_does(server: Server) -> None:
    """An instance of deploy/scale.yml is confined as in docker-compose.yml, and publishes no port."""
    one, alone = scaled()["services"][f"{server.name}-1"], compose()["services"][server.name]
    for key in ("build", "read_only", "cap_drop", "security_opt", "pids_limit", "stop_grace_period", "restart"):
        assert one[key] == alone[key], key
    assert "ports" not in one


def test_scale_trusts_its_proxies_alone() -> None:
    """The servers of deploy/scale.yml believe the balancer and Caddy, whose addresses no other container gets."""
    known = scaled()
    services = known["services"]
    proxies = {services[name]["networks"]["default"]["ipv4_address"] for name in ("caddy", "balancer")}
    [pool] = known["networks"]["default"]["ipam"]["config"]
    for name, service in services.items():
        if "TRUSTED_PROXIES" in service.get("environment", {}):
            assert set(service["environment"]["TRUSTED_PROXIES"].split(",")) == proxies, name
    assert not any(ip_address(address) in ip_network(pool["ip_range"]) for address in proxies)
    assert (
        services["balancer"]["environment"]["PROXY"] == f"{services['caddy']['networks']['default']['ipv4_address']}/32"
    )


def test_scale_publishes_no_engine() -> None:
    """PostgreSQL and Valkey are reached by the servers alone, and Valkey drops no room when its memory is full."""
    services = scaled()["services"]
    assert not any("ports" in services[name] for name in ("postgresql", "valkey"))
    assert "noeviction" in services["valkey"]["command"]
