"""The README and `.env.example` say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ..edge.harness import PACKAGE, settings
from .documents import ROOT, code, page, rows, section

README = page("README.md")
Settings: Any = import_module(f"{PACKAGE}.settings").Settings
server: Any = import_module(f"{PACKAGE}.server")


@pytest.fixture
async def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Start the server of this package with its defaults, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    service = server.create(Settings(host="127.0.0.1", port=0))
    await service.start()
    yield service.app
    await service.stop()


async def test_pages(application: Any) -> None:
    """Every path that the server answers stands in the table, and no other does."""
    assert [path for name, _ in rows(section(README, "HTTP")) for path in code(name)] == list(application.pages)


def test_settings() -> None:
    """Every setting stands in the table with its default, what is accepted, and its meaning."""
    expected = [[f"`{s.name}`", f"`{s.default}`", s.accepted, s.description] for s in settings.describe(Settings)]
    assert rows(section(README, "Settings")) == expected


def test_env_example() -> None:
    """Every setting stands in `.env.example` with its default and its meaning."""
    text = (ROOT / ".env.example").read_text()
    plain = " ".join(text.replace("#", " ").split())
    assert re.findall(r"^([A-Z_]+=.*)$", text, flags=re.MULTILINE) == [
        f"{s.name}={s.default}" for s in settings.describe(Settings)
    ]
    assert [s.name for s in settings.describe(Settings) if s.description not in plain] == []


def test_commands() -> None:
    """Every command stands in the table, and no other does."""
    usage = subprocess.run([sys.executable, "-m", PACKAGE, "--help"], capture_output=True, text=True, check=True).stdout
    table = "\n".join(command for command, _ in rows(section(README, "Commands")))
    documented = re.findall(rf"`(?:\.\.\.|python -m {PACKAGE}) ([a-z]+)", table)
    assert {*documented, "serve"} == set(re.findall(r"^    ([a-z]+)", usage, flags=re.MULTILINE))


async def test_metrics(application: Any) -> None:
    """Every metric of ours stands in the table with its labels, and no other does."""
    documented = {next(iter(code(name))): code(labels) for name, labels, *_ in rows(section(README, "Metrics"))}
    families = {}
    for family in application.metrics.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        families[family.name + suffix] = family
    assert set(documented) == set(families)
    for name, family in families.items():
        for sample in family.samples:
            assert set(sample.labels) <= documented[name], name
