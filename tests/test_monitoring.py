"""The files in deploy/monitoring: Prometheus accepts them, each alert fires and ends, and Grafana's are well-formed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy/monitoring"
WIDTH = 24
"""Columns of Grafana's grid."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="needs amtool: apt-get install prometheus-alertmanager"
)


def load(name: str) -> Any:
    """Return what a YAML file of the folder says."""
    return yaml.safe_load((MONITORING / name).read_text())


def alerts() -> list[dict[str, Any]]:
    """Return all alerting rules."""
    return [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    known: list[dict[str, Any]] = json.loads((MONITORING / "grafana/dashboards/opennoodl.json").read_text())["panels"]
    return known


def check(*command: str) -> None:
    """Run a tool in the folder; it must find nothing wrong."""
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    """Prometheus accepts its configuration with the rules."""
    check("promtool", "check", "config", "prometheus.yml")


@needs_promtool
def test_rules_fire_and_end() -> None:
    """Each alert fires on the series that it is for, and ends."""
    check("promtool", "test", "rules", "alerts_test.yml")


@needs_amtool
def test_alertmanager_accepts_its_configuration() -> None:
    """Alertmanager accepts its configuration."""
    check("amtool", "check-config", "alertmanager.yml")


def test_every_rule_is_tested() -> None:
    """For each alert, there is a test in which it fires and one in which it does not."""
    tested = [case for test in load("alerts_test.yml")["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in tested if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in tested if not case.get("exp_alerts")} == names


def test_every_alert_is_in_the_runbook() -> None:
    """Each alert has a heading in docs/monitoring.md and names it, and no heading is without an alert."""
    page = (ROOT / "docs/monitoring.md").read_text()
    runbook = page.partition("## What to do about an alert")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.+)$", runbook, flags=re.MULTILINE) == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_metrics_of_rules_and_dashboard_exist() -> None:
    """Each metric of ours in the rules and the dashboard is documented by a server."""
    text = (MONITORING / "alerts.yml").read_text() + (MONITORING / "grafana/dashboards/opennoodl.json").read_text()
    pages = "".join(path.read_text() for path in ROOT.glob("opennoodl-*-server/docs/metrics.md"))
    documented = set(re.findall(r"^\| `(opennoodl_\w+)` \|", pages, flags=re.MULTILINE))
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bopennoodl_\w+", text)}
    assert used - documented == set()


def test_prometheus_targets_match_the_compose_file() -> None:
    """Prometheus asks each server under the name and port that it has in docker-compose.yml."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (job,) = load("prometheus.yml")["scrape_configs"]
    for entry in job["static_configs"]:
        (target,) = entry["targets"]
        name, port = target.split(":")
        assert entry["labels"] == {"server": name}
        assert services[name]["ports"][0].endswith(f":{port}")
    assert len(job["static_configs"]) == 3


def test_mounted_files_exist_and_ports_are_local() -> None:
    """Each file that a container is given is there, and only this machine can reach the three programs."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    monitoring = {name: one for name, one in services.items() if one.get("profiles") == ["monitoring"]}
    assert set(monitoring) == {"prometheus", "alertmanager", "grafana"}
    for service in monitoring.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_panel_is_complete() -> None:
    """Each panel has what Grafana needs: an id, a title, a place in the grid, and queries of the data source."""
    source = load("grafana/datasource.yml")["datasources"][0]
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        assert panel["title"]
        assert panel["gridPos"].keys() == {"x", "y", "w", "h"}
        assert 0 <= panel["gridPos"]["x"] <= WIDTH - panel["gridPos"]["w"]
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries")
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"].keys() == {"defaults", "overrides"}
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_panels_do_not_overlap() -> None:
    """No two panels take the same cell of the grid."""
    cells = [
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
