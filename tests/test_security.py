"""The pages of bounds and SECURITY.md name settings and tests that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text()
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
HEAD = "| resource | bound | setting | test |"
SERVERS = ("signaling", "sync", "notification")
PAGES = {
    "bounds": SERVERS,
    "bounds-signaling": ("signaling",),
    "bounds-sync": ("sync",),
    "bounds-notification": ("notification",),
}
"""The pages of bounds, and the servers of each."""


def rows() -> list[tuple[str, str]]:
    """Return every row of the tables of bounds, each with the server that it concerns."""
    found = []
    for page, servers in PAGES.items():
        for table in (ROOT / f"docs/{page}.md").read_text().split(f"{HEAD}\n")[1:]:
            lines = table.split("\n\n")[0].splitlines()[1:]
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


def test_every_page_of_bounds_is_compared() -> None:
    """docs/ has no page of bounds that this file leaves out, and no test in one outside its tables."""
    assert {path.stem for path in (ROOT / "docs").glob("bounds*.md")} == set(PAGES)
    texts = [(ROOT / f"docs/{page}.md").read_text() for page in PAGES]
    compared = {row for _, row in rows()}
    assert [line for text in texts for line in text.splitlines() if TEST.search(line) and line not in compared] == []


def test_security_names_tests() -> None:
    """Each test that SECURITY.md names exists in all servers."""
    named = TEST.findall(SECURITY)
    assert named
    assert [name for name in named for server in SERVERS if not defined(server, *name)] == []
