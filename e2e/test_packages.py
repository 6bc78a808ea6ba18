"""The versions of the clients in package.json, on which all other tests here rely."""

from __future__ import annotations

import json
import re

from harness import HERE


def test_every_client_is_pinned() -> None:
    """The versions are exact: a test that fails tells of our servers, not of a release of theirs."""
    manifest = json.loads((HERE / "package.json").read_text())
    for name, wanted in manifest["dependencies"].items():
        assert re.fullmatch(r"(npm:y-websocket@)?\d+\.\d+\.\d+", wanted), name


def test_the_lock_file_names_no_registry() -> None:
    """It can be installed from any registry: versions and hashes, and no address."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())


def test_all_clients_share_one_yjs() -> None:
    """With a second copy of yjs, documents of the two y-websocket versions would be strangers to each other."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert [path for path in lock["packages"] if path.endswith("/yjs")] == ["node_modules/yjs"]
