"""`make release-check` finds what a release lacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from release import SERVERS, faults, git


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a committed tree that can be released."""
    for name in SERVERS:
        folder = tmp_path / f"opennoodl-{name}-server"
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 (2026-12-01)\n\n## 1.1.0 (2026-11-01)\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit(tmp_path)
    return tmp_path


def commit(tree: Path) -> None:
    """Commit everything."""
    git(tree, "add", ".")
    git(tree, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--message", "a release")


def test_complete_tree_lacks_nothing(tree: Path) -> None:
    """Equal versions, a dated section of the changelog and no change are enough."""
    assert list(faults(tree)) == []


def test_different_versions_are_named(tree: Path) -> None:
    """The versions of the three packages have to be the same."""
    (tree / "opennoodl-sync-server/pyproject.toml").write_text('[project]\nversion = "1.3.0"\n')
    assert list(faults(tree)) == ["The versions differ: signaling 1.2.0, sync 1.3.0, notification 1.2.0."]


@pytest.mark.parametrize(
    ("heading", "fault"),
    [
        ("## 1.1.0 (2026-11-01)", "CHANGELOG.md begins with 1.1.0 and not with 1.2.0."),
        ("## 1.2.0 (unreleased)", "CHANGELOG.md has 'unreleased' and not the date of 1.2.0."),
        ("", "CHANGELOG.md begins with no version and not with 1.2.0."),
    ],
)
def test_changelog_begins_with_the_release(tree: Path, heading: str, fault: str) -> None:
    """The newest section is that of the version, with its date."""
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    commit(tree)
    assert list(faults(tree)) == [fault]


def test_released_version_is_not_released_again(tree: Path) -> None:
    """A version that has a tag needs another number."""
    git(tree, "tag", "v1.2.0")
    assert list(faults(tree)) == ["The tag v1.2.0 exists already: raise the versions."]


def test_changes_have_to_be_committed(tree: Path) -> None:
    """What is not committed would not be in the release."""
    (tree / "new").touch()
    assert list(faults(tree)) == ["There are changes that are not committed."]
