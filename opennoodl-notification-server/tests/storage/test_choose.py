"""Names of files: what is none of a file is said in one line, before anything is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.storage.choose import choose, same


@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("there", "is a directory"),
        ("new/", "is a directory"),
        ("~/n.json", "begins with `~`"),
        ("~", "begins with `~`"),
        ("x" * 300, "cannot be opened: File name too long"),
    ],
)
def test_unusable_names_of_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, name: str, told: str
) -> None:
    """A directory, also one that would be made, a `~`, and a name that the system refuses are refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(StartError, match=f"{name} {told}"):
        choose(scheme + name)
    assert os.listdir(tmp_path) == ["there"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("n.json", "./n.json"),
        ("n.json", "link.json"),
        ("sqlite:///n.json", "sqlite+aiosqlite:///../{here}/n.json"),
        ("n.json", "sqlite:///n.json"),
        ("postgres://u@host/name", "postgresql+asyncpg://u@host/name"),
    ],
)
def test_same_place_under_another_spelling_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    """A place is the same under another spelling."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.json").symlink_to("n.json")
    assert same(one, other.format(here=tmp_path.name))


def test_places_of_different_names_differ() -> None:
    """Places of different names are not the same."""
    places = ["n.json", "m.json", "sqlite:///m.sqlite", "postgresql://host/name", "postgresql://host/other"]
    assert [same(one, other) for one in places for other in places].count(True) == len(places)
