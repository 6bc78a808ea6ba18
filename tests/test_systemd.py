"""deploy/systemd: systemd accepts the units, they confine the servers, and they agree with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from importlib import import_module
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "deploy/systemd"
SERVERS = ("signaling", "sync", "notification")
MOST_EXPOSED = 20
"""Tenths of the exposure that `systemd-analyze security` finds; 100 is a service without any confinement."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)


def text(name: str) -> str:
    """Return a unit as it would be on this machine: with a user and a Python that are there."""
    unit = (UNITS / name).read_text()
    unit = re.sub(r"^(User|Group)=opennoodl$", r"\1=root", unit, flags=re.MULTILINE)
    return unit.replace("/opt/opennoodl/.venv/bin/python", sys.executable)


def analyze(*arguments: str) -> None:
    """Run systemd-analyze, which must find nothing wrong."""
    command = ["systemd-analyze", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@needs_systemd
@pytest.mark.parametrize("name", [*(f"opennoodl@{server}.service" for server in SERVERS), "opennoodl-backup.timer"])
def test_systemd_accepts_every_unit(tmp_path: Path, name: str) -> None:
    """Systemd finds nothing wrong with a unit."""
    for source in UNITS.iterdir():
        target = name if "@" in source.name and "@" in name else source.name
        (tmp_path / target).write_text(text(source.name))
    analyze("verify", "--man=no", str(tmp_path / name))


@needs_systemd
@pytest.mark.parametrize("name", ["opennoodl@.service", "opennoodl-backup.service"])
def test_systemd_finds_every_service_well_confined(tmp_path: Path, name: str) -> None:
    """Systemd counts a service among those that are well confined."""
    target = tmp_path / name.replace("@", "@sync")
    target.write_text((UNITS / name).read_text())
    analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(target))


def service(name: str) -> dict[str, str]:
    """Return the last value of each key of a unit's section for services."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text())
    return dict(parser["Service"])


def test_ended_server_is_restarted() -> None:
    """A server that ends is started again, however often."""
    unit = (UNITS / "opennoodl@.service").read_text()
    assert service("opennoodl@.service")["Restart"] == "always"
    assert "\nStartLimitIntervalSec=0\n" in unit


@pytest.mark.parametrize("server", SERVERS)
def test_server_has_time_to_drain(server: str) -> None:
    """A server has the time to drain before it is killed."""
    drain = import_module(f"opennoodl_{server}.edge.service").DRAIN_TIMEOUT
    assert float(service("opennoodl@.service")["TimeoutStopSec"]) > drain + 1


def test_server_and_backup_share_their_data() -> None:
    """The server and the backup mean the same data, below the directory that systemd makes for a server."""
    expected = "PERSIST_DIR=/var/lib/opennoodl/sync DB_FILE=/var/lib/opennoodl/notification/notifications.json"
    for name in ("opennoodl@.service", "opennoodl-backup.service"):
        assert service(name)["Environment"] == expected
    assert service("opennoodl@.service")["StateDirectory"] == "opennoodl/%i"


def test_server_sees_its_own_data_only() -> None:
    """The directory with the data of all servers is empty for a server, except for its own data."""
    unit = service("opennoodl@.service")
    assert unit["TemporaryFileSystem"] == "/var/lib/opennoodl:ro"
    assert unit["BindPaths"] == f"/var/lib/{unit['StateDirectory']}"
