"""The shared text of the three servers is identical in all copies."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ORIGINAL = "signaling"


def files(folder: Path) -> dict[str, bytes]:
    """Return the Python files below a folder, by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


@pytest.mark.parametrize("name", ["sync", "notification"])
@pytest.mark.parametrize("folder", ["opennoodl_{}/edge", "tests/edge", "tests/package"])
def test_edge_copies_are_identical(name: str, folder: str) -> None:
    """Each copy has the files of the original, and the same text in them."""
    original = files(ROOT / f"opennoodl-{ORIGINAL}-server" / folder.format(ORIGINAL))
    copy = files(ROOT / f"opennoodl-{name}-server" / folder.format(name))
    assert original, "there is nothing to compare with"
    different = sorted(path for path in original.keys() | copy.keys() if original.get(path) != copy.get(path))
    if different:
        pytest.fail(
            f"opennoodl-{name}-server/{folder.format(name)} is not what the {ORIGINAL} server has: "
            f"{', '.join(different)}. Make the change in opennoodl-{ORIGINAL}-server and run `make copies`.",
            pytrace=False,
        )


@pytest.mark.parametrize("name", ["time_limit.py", "attacks/servers.py", "attacks/tls_key_updates.py"])
def test_copies_in_e2e_are_identical(name: str) -> None:
    """The end to end tests have their time limit and their servers in common with the tests of edge."""
    original = ROOT / f"opennoodl-{ORIGINAL}-server" / "tests" / "edge" / Path(name).name
    assert (ROOT / "e2e" / name).read_bytes() == original.read_bytes(), "run `make copies`"


def test_copies_of_the_database_urls_are_identical() -> None:
    """Sync and notification read URLs of PostgreSQL with the same text; notification has the original."""
    original = ROOT / "opennoodl-notification-server" / "opennoodl_notification" / "storage" / "sql" / "postgresql.py"
    copy = ROOT / "opennoodl-sync-server" / "opennoodl_sync" / "storage" / "postgresql" / "url.py"
    assert copy.read_bytes() == original.read_bytes(), "change notification's text and run `make copies`"


def fill() -> Any:
    """Load the script that fills the shared sections of documents."""
    spec = spec_from_file_location("fill", ROOT / "docs" / "shared" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["signaling", "sync", "notification"])
def test_shared_sections_are_identical(name: str) -> None:
    """Each document has the text of the shared sections as it is in docs/shared, and each section is in one."""
    script = fill()
    used: set[str] = set()
    for document in script.documents(name):
        text = document.read_text()
        used |= {section for _, section, _ in script.SECTION.findall(text)}
        assert text == script.filled(text, name), f"{document} differs from docs/shared: run `make copies`"
    assert used == {path.stem for path in (ROOT / "docs" / "shared").glob("*.md")}
