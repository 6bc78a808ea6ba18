"""The documents name only files, settings, metrics and texts that exist."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = ("signaling", "sync", "notification")
GUIDES = (
    "vps",
    "operate",
    "systemd",
    "memory",
    "hosts",
    "load-test",
    "proxies",
    "backup",
    "monitoring",
    "troubleshooting",
    "refusals",
    "starting",
)
OTHER_NAMES = {
    "RAILWAY_RUN_UID",  # Railway's
    "FIRST_PORT",  # of `make up`
    # docker-compose.yml's
    "BIND_ADDRESS",
    "SIGNALING_MEMORY",
    "SYNC_MEMORY",
    "NOTIFICATION_MEMORY",
    "GRAFANA_PASSWORD",
    "SYNC_DATABASE_URL",
    "SYNC_MAX_ROOM_SIZE",
    "SYNC_RATE_LIMIT",  # with the prefix of up.py
}
CODE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Return every Markdown file of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return listed.split()


def guide(name: str) -> str:
    """Return a page for operators without its code blocks."""
    return FENCED.sub("", (ROOT / f"docs/{name}.md").read_text())


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def source() -> str:
    """Return the code of all servers, with strings that stand in several pieces joined."""
    code = "\n".join(
        path.read_text() for name in SERVERS for path in (ROOT / f"opennoodl-{name}-server").glob("opennoodl_*/**/*.py")
    )
    return re.sub(r'"\n\s*f?"', "", code)


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page leads to a file of the repository, and to a heading if it names one."""
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith("opennoodl-")])
def test_packages_stand_alone(page: str) -> None:
    """A page of a package links to nothing outside the package, which is a repository of its own."""
    path = ROOT / page
    links = re.findall(r"\]\(([^)\s:]+)\)", FENCED.sub("", path.read_text()))
    package = ROOT / Path(page).parts[0]
    assert [
        link for link in links if not (path.parent / link.partition("#")[0]).resolve().is_relative_to(package)
    ] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/long-runs.md"])
def test_contributors_pages_name_test_files(page: str) -> None:
    """Each test file in the commands of a page for contributors exists."""
    folders = [ROOT, ROOT / "e2e", *(ROOT / f"opennoodl-{server}-server" for server in SERVERS)]
    named = re.findall(r"pytest ([\w/]+\.py)", (ROOT / page).read_text())
    assert named
    assert [name for name in named if not any((folder / name).is_file() for folder in folders)] == []


@pytest.mark.parametrize("name", GUIDES)
def test_settings_of_the_guides_exist(name: str) -> None:
    """Each setting that a guide names is a setting of a server."""
    known = {
        field.upper()
        for server in SERVERS
        for field in import_module(f"opennoodl_{server}.settings").Settings.__struct_fields__
    }
    named = {word for code in CODE.findall(guide(name)) for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", code)}
    assert named
    assert named - known - OTHER_NAMES == set()


def test_metrics_of_the_guides_exist() -> None:
    """Each metric that a guide names is documented by a server."""
    documented = "".join((ROOT / f"opennoodl-{server}-server/docs/metrics.md").read_text() for server in SERVERS)
    named = {metric for name in GUIDES for metric in re.findall(r"\bopennoodl_\w+_\w+", guide(name))}
    assert named
    assert {metric for metric in named if f"| `{metric}` |" not in documented} == set()


def test_quoted_texts_exist() -> None:
    """Each text of a server that a page of troubleshooting quotes is in the code.

    It ends with a full stop, or has `...` in place of values.
    """
    text = guide("troubleshooting") + guide("starting")
    quoted = [code for code in CODE.findall(text) if " " in code and re.search(r"\.$|\.\.\.", code)]
    texts = [part.strip(" .:;") for code in quoted for part in re.sub(r"^\d{3} ", "", code).split("...")]
    assert len(texts) > 10
    assert [text for text in texts if text not in source()] == []


def test_every_refusal_is_in_the_tables() -> None:
    """docs/refusals.md has each code of a refusal with the reason as the log says it, and no other one."""
    page = (ROOT / "docs/refusals.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    documented = [(code, reason) for code, reason, _ in rows]
    modules = ("opennoodl_signaling.signaling", "opennoodl_sync.refusals", "opennoodl_notification.server")
    own = [list(import_module(module).REFUSALS.items()) for module in modules]
    edge = import_module("opennoodl_signaling.edge.refusals")
    assert documented == [*edge.EDGE.items(), *own[0], *own[1], *own[2]]
    assert f"`{edge.LEFT_OUT}`" in page
    assert f'"event": "{edge.EVENT}"' in page
