"""Which module loads which: the domain loads no socket, and nothing in the edge imports in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from ..edge.harness import PACKAGE

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / PACKAGE
WITH_SOCKET = {
    "__main__",
    "carry_out",
    "commands",
    "server",
    "signaling",
    "sender",
    "effects",
    "sessions",
    "entrance",
    "relay",
    "masking",
    "peers",
    "worker",
    "devices",
    "requests",
    "delivery",
    "recovery",
}
"""The modules of a server that may load the edge's connections, or are clients themselves."""
LOAD = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
    if "websockets" in sys.modules:
        sys.exit(f"{name} loads websockets")
"""
"""Loads modules one after the other, and says which is the first that loads a socket."""


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by name, with their files."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Yield the modules among `known` that a module imports anywhere, also for its types alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = package.split(".")
        base = parts[: len(parts) - node.level + 1] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            yield from {origin, f"{origin}.{alias.name}"} & known


@pytest.mark.slow
def test_domain_has_no_socket() -> None:
    """Every module of the domain can be loaded without websockets."""
    names = [
        name
        for name, path in modules(SOURCE).items()
        if "edge" not in path.relative_to(SOURCE).parts and path.stem not in WITH_SOCKET
    ]
    assert names
    done = subprocess.run([sys.executable, "-c", LOAD, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def imports(package: Path) -> dict[str, set[str]]:
    """Return which modules of a package each of them imports."""
    known = modules(package)
    return {name: set(imported(name, path, set(known))) - {name} for name, path in known.items()}


def circle(graph: dict[str, set[str]]) -> str:
    """Return a circle of modules that import each other; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return ""


def test_modules_import_in_no_circle() -> None:
    """No module of this package imports itself by way of others, not even for types."""
    graph = imports(SOURCE)
    assert sum(map(len, graph.values())) > len(graph)
    assert circle(graph) == ""


CIRCLES = {
    "two modules": {"a.py": "from .b import B", "b.py": "from .a import A"},
    "for types alone": {
        "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B",
        "b.py": "def later():\n    from . import a",
    },
    "by way of a folder": {"a.py": "from .c.d import D", "c/__init__.py": "", "c/d.py": "from ..a import A"},
    "by the full name": {"a.py": "from package.b import B", "b.py": "from package.a import A"},
}


@pytest.mark.parametrize("files", CIRCLES.values(), ids=CIRCLES)
def test_import_circle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    """A circle is found, however its modules import each other."""
    package = tmp_path / "package"
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert "package.a" in circle(imports(package))
