"""deploy/scale.yml runs two instances of each server behind a load balancer."""

from ipaddress import ip_address, ip_network
from typing import Any

import yaml
from deployment import ROOT, Server, compose, every_server


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
