"""`make release-check` finds what a release lacks."""

from __future__ import annotations

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def load() -> Any:
    """Load the script at the top of the repository."""
    spec = spec_from_file_location("release", ROOT / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a committed tree that can be released."""
    for name in release.SERVERS:
        folder = tmp_path / f"opennoodl-{name}-server"
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 (2026-12-01)\n\n## 1.1.0 (2026-11-01)\n")
    write_changelogs(tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit(tmp_path)
    return tmp_path


def write_changelogs(tree: Path) -> None:
    """Do what `make changelogs` does."""
    for path, text in release.changelogs(tree).items():
        path.write_text(text)


def commit(tree: Path) -> None:
    """Commit everything."""
    release.git(tree, "add", ".")
    release.git(tree, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--message", "a release")


def test_complete_tree_lacks_nothing(tree: Path) -> None:
    """Equal versions, a dated section of the changelog and no change are enough."""
    assert list(release.faults(tree)) == []


def test_different_versions_are_named(tree: Path) -> None:
    """The versions of the three packages have to be the same."""
    (tree / "opennoodl-sync-server/pyproject.toml").write_text('[project]\nversion = "1.3.0"\n')
    assert list(release.faults(tree)) == ["The versions differ: signaling 1.2.0, sync 1.3.0, notification 1.2.0."]


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
    write_changelogs(tree)
    commit(tree)
    assert list(release.faults(tree)) == [fault]


def test_released_version_is_not_released_again(tree: Path) -> None:
    """A version that has a tag needs another number."""
    release.git(tree, "tag", "v1.2.0")
    assert list(release.faults(tree)) == ["The tag v1.2.0 exists already: raise the versions."]


def test_changes_have_to_be_committed(tree: Path) -> None:
    """An uncommitted change would be missing from the release, so it is refused."""
    (tree / "new").touch()
    assert list(release.faults(tree)) == ["There are changes that are not committed."]


def test_changelogs_of_the_servers_are_written_before_a_release(tree: Path) -> None:
    """A folder whose changelog is older than that of the repository is noticed."""
    (tree / "opennoodl-sync-server/CHANGELOG.md").write_text("# Changelog\n")
    commit(tree)
    fault = "A server's CHANGELOG.md is not its part of that of the repository: run `make changelogs`."
    assert list(release.faults(tree)) == [fault]


def test_changelog_of_a_server_is_its_part() -> None:
    """The changelog of a server has the sections about all servers and about this one, of each version."""
    text = (
        "# C\n\n## 2\n\n### All servers\n\n* a\n\n### Signaling\n\n* b\n\n### Sync\n\n* c\n\n## 1\n\n### Sync\n\n* d\n"
    )
    assert (
        release.changelog(text, "signaling")
        == "# C\n\n## 2\n\n### All servers\n\n* a\n\n### Signaling\n\n* b\n\n## 1\n"
    )
