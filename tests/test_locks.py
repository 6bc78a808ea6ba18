"""Every installed package is locked: one version, with its hashes."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SERVERS = ("signaling", "sync", "notification")
MAKEFILE = (ROOT / "Makefile").read_text()
HASH = r"--hash=sha256:[0-9a-f]{64}"
every_server = pytest.mark.parametrize("name", SERVERS)
every_lock = pytest.mark.parametrize("name", [*SERVERS, ""])


def folder(name: str) -> Path:
    """Return the folder of a server, or the one above for no name."""
    return ROOT / f"opennoodl-{name}-server" if name else ROOT


def entries(name: str) -> list[str]:
    """Return what a lock file has, each entry in one line and without comments."""
    text = (folder(name) / "requirements.lock").read_text()
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\s*\\\n\s*", " ", text).splitlines()


def locked(name: str) -> dict[str, str]:
    """Return the version of every package in a lock file."""
    return {entry.split("==")[0]: entry.split("==")[1].split()[0] for entry in entries(name)}


def needed(name: str) -> list[Requirement]:
    """Return what a server is built from, and all that it needs, with its extras but for the tests."""
    project = tomllib.loads((folder(name) / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    optional = [text for extra, texts in extras.items() if extra != "test" for text in texts]
    return [
        Requirement(text)
        for text in project["build-system"]["requires"] + project["project"]["dependencies"] + optional
    ]


@every_lock
def test_every_locked_version_has_hashes(name: str) -> None:
    """Every entry is one version with the hashes of its files, and there is nothing else: no index, no path."""
    for entry in entries(name):
        assert re.fullmatch(rf"[a-z0-9-]+==\S+( ; [^\\]+?)?( {HASH})+", entry), entry


@every_server
def test_every_dependency_is_locked(name: str) -> None:
    """Each dependency of a server's pyproject.toml is locked in an accepted version."""
    versions = locked(name)
    for requirement in needed(name):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


@every_server
def test_indirect_dependencies_are_locked(name: str) -> None:
    """Indirect dependencies are locked too."""
    versions = locked(name)
    todo, done = needed(name), set()
    while todo:
        requirement = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue  # for another Python or platform: not installed here, so what it needs is not known
        key = canonicalize_name(requirement.name), *sorted(requirement.extras)
        if key in done:
            continue
        done.add(key)
        assert key[0] in versions, requirement
        for text in requires(requirement.name) or ():
            further = Requirement(text)
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                further.marker = None
                todo.append(further)
    assert {key[0] for key in done} <= versions.keys()


def test_shared_dependencies_have_one_version() -> None:
    """Shared dependencies are locked in one version: `make up` installs them into one environment."""
    versions: dict[str, set[str]] = {}
    for name in (*SERVERS, ""):
        for package, version in locked(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_make_up_installs_locked_wheels() -> None:
    """`make up` installs what is locked, as wheels, and the servers without anything that they ask for."""
    recipe = MAKEFILE.split("\n.venv/up:")[1].split("\n\n")[0]
    installs = re.findall(r"pip install (.*)", recipe)
    assert len(installs) == 2
    assert {"$(WHEELS)", "--require-hashes"} <= set(installs[0].split())
    assert "\nWHEELS := --only-binary :all:\n" in MAKEFILE
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())


@every_server
def test_images_install_locked_wheels(name: str) -> None:
    """An image is built from what is locked, from wheels, and the server without anything that it asks for."""
    text = re.sub(r"\s*\\\n\s*", " ", (folder(name) / "Dockerfile").read_text())
    installs = re.findall(r"pip --python \S+ install (.*?)(?: &&|\n)", text)
    assert len(installs) == 2
    assert "--only-binary :all: --require-hashes --requirement requirements.lock" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())
