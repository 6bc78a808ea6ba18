"""Each folder of a server is a whole repository: what is cut out of this one builds and tests without the rest.

`OPENNOODL_STANDALONE=1` runs all tests of each folder there, and not only those of its imports.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SERVERS = ("signaling", "sync", "notification")
FILES = (
    "LICENSE",
    "CHANGELOG.md",
    "README.md",
    "Dockerfile",
    "railway.json",
    "render.yaml",
    "fly.toml",
    ".env.example",
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module", params=SERVERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut the committed folder of a server out of the repository."""
    name = f"opennoodl-{request.param}-server"
    cut = tmp_path_factory.mktemp("repository") / name
    cut.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", f"HEAD:{name}"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", cut], input=archive, check=True)
    return cut


def package(folder: Path) -> str:
    """Return the package that a folder has."""
    return folder.name.removesuffix("-server").replace("-", "_")


def run(folder: Path, *command: str) -> None:
    """Run Python in a folder; its package there is the one that is imported."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_folder_has_the_files_of_a_repository(folder: Path) -> None:
    """License, changelog, README, workflows and the files of the hosts are there."""
    assert [name for name in FILES if not (folder / name).is_file()] == []


def test_links_stay_in_the_folder(folder: Path) -> None:
    """No document refers to a file that is elsewhere in the repository of all servers."""
    for document in folder.rglob("*.md"):
        for target in LINK.findall(document.read_text()):
            path = (document.parent / target).resolve()
            assert path.is_relative_to(folder.resolve()), f"{document.name} links to {target}"
            assert path.exists(), f"{document.name} links to {target}"


def test_workflows_test_and_publish_the_folder(folder: Path) -> None:
    """One workflow runs the tests on each Python, and one publishes the image for both architectures on a tag."""
    test, image = (yaml.safe_load((folder / f".github/workflows/{name}.yml").read_text()) for name in ("test", "image"))
    commands = [step["run"] for step in test["jobs"]["test"]["steps"] if "run" in step]
    assert commands[-1] == "pytest"
    assert any("--requirement requirements.lock" in command for command in commands)
    *_, publish = image["jobs"]["image"]["steps"]
    assert image[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert set(publish["with"]["platforms"].split(",")) == {"linux/amd64", "linux/arm64"}


def test_folder_builds_a_wheel(folder: Path, tmp_path: Path) -> None:
    """The folder builds a wheel with the package in it."""
    run(folder, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"{package(folder)}_server-")


def test_folder_tests_itself(folder: Path) -> None:
    """The tests in the folder pass there, with the package of the folder: those of its imports, or all."""
    run(folder, "-c", f"import {package(folder)} as it; assert it.__file__.startswith({str(folder)!r})")
    whole = os.environ.get("OPENNOODL_STANDALONE")
    run(folder, "-m", "pytest", "-p", "no:cacheprovider", *([] if whole else ["tests/package/test_imports.py"]))
