"""How much memory there is, for cgroups as both versions of Linux' interface show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from opennoodl_sync.memory import available as module
from opennoodl_sync.memory.available import available_memory

MACHINE = 1 << 34
V1 = "9:name=systemd:/\n4:memory:/outer/inner\n0::/outer/inner\n"
V2 = "0::/outer/inner\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have 16 GiB."""
    monkeypatch.setattr(module, "_machine_memory", lambda: MACHINE)


def put(root: Path, files: dict[str, str]) -> None:
    """Write files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_cgroups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    """Other systems have no such files."""
    assert available_memory(tmp_path) == MACHINE


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"outer/inner/memory.max": "268435456\n"}, 268_435_456),
        ({"outer/inner/memory.max": "max\n", "outer/memory.max": "536870912\n"}, 536_870_912),
        ({"outer/inner/memory.max": "max\n", "outer/memory.max": "max\n"}, MACHINE),
        ({"memory.max": "268435456\n"}, 268_435_456),
        ({"outer/inner/memory.max": f"{MACHINE * 2}\n"}, MACHINE),
    ],
    ids=["own", "above", "none", "container", "more than the machine"],
)
def test_cgroups_of_version_2(tmp_path: Path, limits: dict[str, str], expected: int) -> None:
    """The least limit holds of the process's group and those above it, or the container's at the top."""
    put(tmp_path, {"proc/self/cgroup": V2, **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()}})
    assert available_memory(tmp_path) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"outer/inner/memory.limit_in_bytes": "268435456\n"}, 268_435_456),
        ({"outer/inner/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ({"memory.limit_in_bytes": "268435456\n"}, 268_435_456),
    ],
    ids=["own", "none", "container"],
)
def test_cgroups_of_version_1(tmp_path: Path, limits: dict[str, str], expected: int) -> None:
    """It is as with version 2, whose hierarchy may be there beside it."""
    put(tmp_path, {"proc/self/cgroup": V1, **{f"sys/fs/cgroup/memory/{name}": text for name, text in limits.items()}})
    assert available_memory(tmp_path) == expected


def test_files_of_this_machine_are_read() -> None:
    """The real files can be read."""
    assert module._cgroup_memory(Path("/")) is None or module._cgroup_memory(Path("/")) > 0
