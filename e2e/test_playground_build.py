"""The playground that is committed is the one that its source makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness import HERE

PLAYGROUND = HERE.parent / "playground"
SMALL = 400_000
"""Bytes of the whole page, which are in the repository and come with each first visit."""
REFERENCE = 1_000
"""Lines of the reference client, so that others read and copy it."""


def test_dist_is_built_from_the_source(node: str, tmp_path: Path) -> None:
    """The types are right, and a build has the bytes of playground/dist; otherwise run `make playground`."""
    modules = PLAYGROUND / "node_modules"
    subprocess.run([node, modules / "typescript/bin/tsc", "--noEmit"], cwd=PLAYGROUND, check=True)
    vite = [node, str(modules / "vite/bin/vite.js"), "build", "--emptyOutDir"]
    subprocess.run([*vite, "--logLevel", "error", "--outDir", str(tmp_path)], cwd=PLAYGROUND, check=True)
    built, committed = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in (tmp_path, PLAYGROUND / "dist")
    )
    assert sorted(built) == sorted(committed)
    assert [name for name in built if built[name] != committed[name]] == []
    assert sum(map(len, built.values())) < SMALL


def test_the_versions_are_those_that_are_tested() -> None:
    """The page has the versions of the clients that all end-to-end tests use."""
    ours, theirs = (json.loads((folder / "package-lock.json").read_text())["packages"] for folder in (PLAYGROUND, HERE))
    for name in ("lib0", "y-indexeddb", "y-protocols", "y-webrtc", "y-websocket", "yjs", "simple-peer"):
        assert ours[f"node_modules/{name}"]["version"] == theirs[f"node_modules/{name}"]["version"]


def test_the_reference_client_is_short() -> None:
    """The modules to copy have fewer than 1,000 lines, and need nothing else of the page."""
    files = sorted((PLAYGROUND / "src/client").iterdir())
    assert {"signaling.ts", "sync.ts", "inbox.ts"} <= {file.name for file in files}
    assert sum(len(file.read_text().splitlines()) for file in files) < REFERENCE
    assert [file.name for file in files if "from '../" in file.read_text()] == []
