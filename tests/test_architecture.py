"""The architecture pages name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = ("signaling", "sync", "notification")
PAGES = {f"opennoodl-{name}-server/docs/architecture.md": name for name in SERVERS} | {
    "ARCHITECTURE.md": "signaling",
    "opennoodl-sync-server/docs/engine.md": "sync",
    "opennoodl-sync-server/docs/instances.md": "sync",
    "opennoodl-notification-server/docs/instances.md": "notification",
}
"""The pages, and the server whose folders they speak of."""
NAMED = [
    (page, name)
    for page in PAGES
    for name in sorted(set(re.findall(r"`([\w/-]+(?:\.py|/))`", (ROOT / page).read_text())))
]


@pytest.mark.parametrize(("page", "name"), NAMED)
def test_every_named_file_exists(page: str, name: str) -> None:
    """A file or folder that a page names exists: in the repository, the package's folder, or somewhere below it."""
    folder = ROOT / f"opennoodl-{PAGES[page]}-server"
    package = folder / f"opennoodl_{PAGES[page]}"
    found = [ROOT / name, folder / name, *package.glob(f"**/{name.rstrip('/')}")]
    assert any(path.is_dir() if name.endswith("/") else path.is_file() for path in found)


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files(page: str) -> None:
    """Each page names some files; otherwise the test above would compare nothing."""
    assert any(of == page for of, _ in NAMED)
