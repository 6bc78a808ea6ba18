"""The pages of settings, commands, paths and metrics, and `.env.example`, say what the code does."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ..edge.harness import PACKAGE, settings
from .documents import ROOT, code, compare, page, rows, section

COMMANDS_PAGE = page("docs/commands.md")
Settings: Any = import_module(f"{PACKAGE}.settings").Settings
server: Any = import_module(f"{PACKAGE}.server")
COMMANDS = {
    found[1]: f"{command} {purpose}"
    for command, purpose in rows(COMMANDS_PAGE)
    if (found := re.search(rf"`(?:\.\.\.|python -m {PACKAGE}) ([a-z]+)", command))
}
"""The row of each command."""
LISTED = {"outcome", "limit", "kind", "end", "found", "reason"}
"""Labels whose values are in the rows of their metrics; types and codes have tables of their own."""


@pytest.fixture
async def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Start the server of this package with its defaults, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    service = server.create(Settings(host="127.0.0.1", port=0))
    await service.start()
    yield service.app
    await service.stop()


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what returns what a command prints about itself."""

    def print_(*command: str) -> str:
        monkeypatch.setattr(sys, "argv", [PACKAGE, *command, "--help"])
        with pytest.raises(SystemExit, match=r"^0$"):
            import_module(f"{PACKAGE}.__main__").arguments()
        return capsys.readouterr().out

    return print_


def test_settings_table_is_complete() -> None:
    """Every setting is in the table with its default, its accepted values, and its meaning."""
    expected = [[f"`{s.name}`", f"`{s.default}`", s.accepted, s.description] for s in settings.describe(Settings)]
    compare(rows(page("docs/settings.md")), expected)
    assert rows(page("docs/settings.md")) == expected, "the order differs"


def test_env_example_has_every_setting() -> None:
    """Every setting stands in `.env.example` with its default and its meaning."""
    text = (ROOT / ".env.example").read_text()
    plain = " ".join(text.replace("#", " ").split())
    set_there = re.findall(r"^([A-Z_]+=.*)$", text, flags=re.MULTILINE)
    expected = [f"{s.name}={s.default}" for s in settings.describe(Settings)]
    compare(set_there, expected)
    assert set_there == expected, "the order differs"
    assert [s.name for s in settings.describe(Settings) if s.description not in plain] == []


def test_commands_table_is_complete(usage: Callable[..., str]) -> None:
    """Every command stands in the table, and no other does."""
    compare({*COMMANDS, "serve"}, set(re.findall(r"^    ([a-z]+)", usage(), flags=re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_commands_are_documented(usage: Callable[..., str], command: str) -> None:
    """Every option of a command stands in its row or its paragraph, and no other does."""
    paragraphs = COMMANDS_PAGE.split("\n\n")
    about = [COMMANDS[command], *(text for text in paragraphs if text.startswith("**") and f"`{command}`" in text)]
    documented = {option for text in about for option in re.findall(r"(--[a-z]+)", text)}
    compare(documented, set(re.findall(r"(--[a-z]+)", usage(command))) - {"--help"})


async def test_pages_table_is_complete(application: Any) -> None:
    """Every path that the server answers stands in the table, and no other does."""
    documented = rows(section(page("docs/http.md"), "Paths"))
    compare([path for paths, _ in documented for path in code(paths)], application.pages)


async def test_metrics_table_is_complete(application: Any) -> None:
    """Every metric of ours stands in the table with its labels, and no other does."""
    documented = {next(iter(code(name))): code(labels) for name, labels, *_ in rows(page("docs/metrics.md"))}
    families = {}
    for family in application.metrics.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        families[family.name + suffix] = family
    compare(set(documented), set(families))
    for name, family in families.items():
        for sample in family.samples:
            assert set(sample.labels) <= documented[name], name


async def test_labelled_counters_begin_with_zero(application: Any) -> None:
    """Every labelled counter has all values of its label before the first event; a row that lists some lists all."""
    families = {family.name: family for family in application.metrics.collect()}
    for name, labels, text in rows(page("docs/metrics.md")):
        (metric,) = code(name)
        family = families.get(metric.removesuffix("_total"))
        if family is None or not labels:
            continue
        if family.type == "counter":
            assert {sample.value for sample in family.samples} == {0}, metric
        if code(labels) & LISTED and "such as" not in text:
            (label,) = code(labels)
            compare(code(text), {sample.labels[label] for sample in family.samples})
