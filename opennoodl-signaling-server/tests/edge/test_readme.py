"""The README and `.env.example` say what the code does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .harness import PACKAGE, settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
Settings: Any = import_module(f"{PACKAGE}.settings").Settings
server: Any = import_module(f"{PACKAGE}.server")


def section(title: str) -> str:
    """Return the text of the README's section `title`, with its subsections."""
    text = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert text is not None, f"the README has no section {title}"
    return text[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of every table row below `title`, without the table heads."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    heads = {i for i, line in enumerate(lines) if set(line) <= set("| -")}
    heads |= {i - 1 for i in heads}
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for i, line in enumerate(lines) if i not in heads]


def code(text: str) -> set[str]:
    """Return what stands in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


@pytest.fixture
async def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Start the server of this package with its defaults, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    service = server.create(Settings(host="127.0.0.1", port=0))
    await service.start()
    yield service.app
    await service.stop()


def test_settings() -> None:
    """Every setting stands in the table with its default, what is accepted, and its meaning."""
    expected = [[f"`{s.name}`", f"`{s.default}`", s.accepted, s.description] for s in settings.describe(Settings)]
    assert rows("Settings") == expected


def test_env_example() -> None:
    """Every setting stands in `.env.example` with its default and its meaning."""
    text = (ROOT / ".env.example").read_text()
    plain = " ".join(text.replace("#", " ").split())
    assert re.findall(r"^([A-Z_]+=.*)$", text, flags=re.MULTILINE) == [
        f"{s.name}={s.default}" for s in settings.describe(Settings)
    ]
    assert [s.name for s in settings.describe(Settings) if s.description not in plain] == []


async def test_metrics(application: Any) -> None:
    """Every metric of ours stands in the table with its labels, and no other does."""
    documented = {next(iter(code(name))): code(labels) for name, labels, *_ in rows("Metrics")}
    families = {}
    for family in application.metrics.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        families[family.name + suffix] = family
    assert set(documented) == set(families)
    for name, family in families.items():
        for sample in family.samples:
            assert set(sample.labels) <= documented[name], name


def test_messages() -> None:
    """Every message that the server takes stands in a table."""
    documented = set().union(*(code(cell) for row in rows("Messages") for cell in row))
    assert taken_messages() - documented == set()


def test_errors() -> None:
    """Every error code stands in the table with its meaning, and every code that closes a connection does too."""
    documented = {cells[0].strip("`"): cells[1] for cells in rows("Errors")}
    assert {name: meaning for name, meaning in documented.items() if not name.isdigit()} == declared_errors()
    assert {name for name in documented if name.isdigit()} == closing_codes()


def taken_messages() -> set[str]:
    """Return the names of the messages that this package's server takes."""
    if (ROOT / PACKAGE / "messages.py").exists():
        return set(import_module(f"{PACKAGE}.messages").decode.names.values())
    names: dict[Any, str] = import_module(f"{PACKAGE}.protocol").NAMES
    return set(names.values())


def declared_errors() -> dict[str, str]:
    """Return the error codes that this package declares."""
    if (ROOT / PACKAGE / "messages.py").exists():
        declared: dict[str, str] = import_module(f"{PACKAGE}.messages").ERRORS
        return declared
    return {}


def closing_codes() -> set[str]:
    """Return the close codes that this package sends: 1009 through websockets, the others by name in its code.

    The edge's own answers for servers of JSON (1008, and 1013 for a slow client) are not sync's: it reads a
    fast client more slowly, and sends a slow one less.
    """
    edge, own = "", ""
    for path in (ROOT / PACKAGE).rglob("*.py"):
        if path.parent.name == "edge":
            edge += path.read_text()
        else:
            own += path.read_text()
    sends = re.compile(r"(?:CloseConnection|end|Close)\((?:client, |holder, )?(\d{4}),")
    theirs = set() if "JsonApplication" in own else {"1008", "1013"}
    named = re.findall(r"^[A-Z]+ = (44\d\d)$", own, flags=re.MULTILINE)
    return {"1009", *(set(sends.findall(edge)) - theirs), *sends.findall(own), *named}
