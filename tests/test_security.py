"""SECURITY.md names bounds with settings and tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
SECTIONS = {
    "In all three servers": ("signaling", "sync", "notification"),
    "Signaling": ("signaling",),
    "Sync": ("sync",),
    "Notifications": ("notification",),
}


def rows() -> list[tuple[str, str]]:
    """Return every row of the tables of bounds, with the server that it is about."""
    found = []
    for title, servers in SECTIONS.items():
        section = TEXT.split(f"### {title}\n")[1].split("\n##")[0]
        lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
        found += [(server, line) for server in servers for line in lines]
    return found


@pytest.mark.parametrize(("server", "row"), rows())
def test_bound(server: str, row: str) -> None:
    """Each bound has a test, which is there, and its setting, if it has one, is a setting of the server."""
    _what, _bound, setting, tests = row.split("|")[1:-1]
    root = ROOT / f"opennoodl-{server}-server"
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named
    for file, test in named:
        assert re.search(rf"def {test}\(", (root / "tests" / file).read_text()), f"{file} has no {test}"
    for name in re.findall(r"`([A-Z_]+)`", setting):
        assert f"| `{name}` |" in (root / "README.md").read_text()
