"""docs/bounds.md and SECURITY.md name settings and tests that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUNDS = (ROOT / "docs/bounds.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
HEADS = ("| resource |", "| --- |")
SECTIONS = {
    "In all three servers": ("signaling", "sync", "notification"),
    "Signaling": ("signaling",),
    "Sync": ("sync",),
    "Notifications": ("notification",),
}


def rows() -> list[tuple[str, str]]:
    """Return every row of the tables of bounds, each with the server that it concerns."""
    found = []
    for title, servers in SECTIONS.items():
        section = BOUNDS.split(f"## {title}\n")[1].split("\n## ")[0]
        lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith(HEADS)]
        found += [(server, line) for server in servers for line in lines]
    return found


def defined(server: str, file: str, test: str) -> bool:
    """Return whether a test of a server exists."""
    path = ROOT / f"opennoodl-{server}-server" / "tests" / file
    return path.is_file() and re.search(rf"def {test}\(", path.read_text()) is not None


@pytest.mark.parametrize(("server", "row"), rows())
def test_every_bound_names_its_tests(server: str, row: str) -> None:
    """Each bound names at least one test of the server, and only settings of the server."""
    _resource, _bound, setting, tests = row.split("|")[1:-1]
    named = TEST.findall(tests)
    assert named
    assert [name for name in named if not defined(server, *name)] == []
    fields = import_module(f"opennoodl_{server}.settings").Settings.__struct_fields__
    assert {name.lower() for name in re.findall(r"`([A-Z_]+)`", setting)} <= set(fields)


def test_every_section_of_bounds_is_compared() -> None:
    """docs/bounds.md has no section with tests that this file leaves out."""
    sections = re.findall(r"^## (.+)$", BOUNDS, flags=re.MULTILINE)
    assert {title for title in sections if TEST.search(BOUNDS.split(f"## {title}\n")[1].split("\n## ")[0])} == set(
        SECTIONS
    )


def test_security_names_tests() -> None:
    """Each test that SECURITY.md names exists in all servers."""
    named = TEST.findall(SECURITY)
    assert named
    assert [name for name in named for server in SECTIONS["In all three servers"] if not defined(server, *name)] == []
