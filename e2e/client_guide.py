"""The Python examples of `docs/client-tokens.md` and `docs/client-python.md`, unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import HERE

PAGES = [HERE.parent / "docs" / name for name in ("client-tokens.md", "client-python.md")]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
NAME = re.compile(r"`(\w+\.py)`")


def python(name: str) -> Callable[..., Any]:
    """Return a function or class of the examples; each example is a separate module."""
    for code in BLOCK.findall(_text()):
        if re.search(rf"^(async )?(def|class) {name}\b", code, re.MULTILINE):
            names: dict[str, Callable[..., Any]] = {}
            exec(code, names)  # noqa: S102
            return names[name]
    raise LookupError(f"the pages have no {name} in Python")


def write_programs(folder: Path, **addresses: str) -> None:
    """Write the examples with a file name to a folder, with these addresses of the servers.

    Args:
        folder: the folder.
        addresses: the addresses by server name.
    """
    ports = {"sync": 4445, "notification": 4446}
    text = BLOCK.split(_text())
    for before, code in zip(text[::2], text[1::2], strict=False):
        for name in NAME.findall(before)[-1:]:
            program = code
            for server, url in addresses.items():
                program = program.replace(f"ws://localhost:{ports[server]}", url)
            (folder / name).write_text(program)


def _text() -> str:
    return "\n".join(page.read_text() for page in PAGES)
