"""What the three servers share is one text in three copies."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORIGINAL = "signaling"


def files(folder: Path) -> dict[str, bytes]:
    """Return the Python files below a folder, by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


@pytest.mark.parametrize("name", ["sync", "notification"])
@pytest.mark.parametrize("folder", ["opennoodl_{}/edge", "tests/edge"])
def test_copies(name: str, folder: str) -> None:
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
