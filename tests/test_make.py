"""`make up` on a machine that it cannot serve: one line says what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with what `make up` reads before it installs anything."""
    for path in [ROOT / "Makefile", *ROOT.glob("**/requirements.lock"), *ROOT.glob("opennoodl-*/pyproject.toml")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path


def make(clone: Path, *arguments: str, **environ: str) -> list[str]:
    """Return what `make up` writes to standard error, without make's own last line."""
    command = ["make", "-s", "up", *arguments]
    # A make that runs these tests must not be taken for the parent of this one.
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(command, cwd=clone, env=outside | environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    *lines, last = done.stderr.splitlines()
    assert last.startswith("make: ***")
    return lines


def install(clone: Path, **environ: str) -> list[str]:
    """Return what `make up` says where pip looks for everything anew, in the environment of these tests."""
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return make(clone, PIP_IGNORE_INSTALLED="1", PIP_DRY_RUN="1", **environ)


def test_package_without_a_wheel_is_named(clone: Path) -> None:
    """A package that has no wheel for this Python and machine is named, with the two ways out."""
    (clone / "nothing").mkdir()
    [line] = install(clone, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone / "nothing"))
    assert " has no wheel for Python 3." in line
    assert "Install Python 3.12, 3.13 or 3.14" in line
    assert "g++ and libleveldb-dev" in line


def test_an_old_python(clone: Path) -> None:
    """A Python before 3.11 is refused before anything is made."""
    old = clone / "python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2"\n')
    old.chmod(0o755)
    [line] = make(clone, f"PYTHON={old}")
    assert line.startswith(f"{old} is Python 3.10. Install Python 3.12, 3.13 or 3.14")
    assert not (clone / ".venv").exists()


def test_other_errors_of_pip_are_shown(clone: Path) -> None:
    """When pip fails for another reason, its own words are shown."""
    lines = install(clone, PIP_INDEX_URL="http://127.0.0.1:9", PIP_EXTRA_INDEX_URL="", PIP_RETRIES="1")
    assert any("connection broken" in line for line in lines)
    assert not any("has no wheel" in line for line in lines)
