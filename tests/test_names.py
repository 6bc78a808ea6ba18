"""Names of tests state a behaviour: "full room refuses another peer", and not "full"."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = 3
"""A subject, a verb, and what the verb is about; fewer words name a topic and leave the behaviour open."""


@cache
def names(path: str) -> list[str]:
    """Return the names of the tests in a file, without ``test_``."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name.removeprefix("test_") for name in functions if name.startswith("test_")]


def suites() -> list[str]:
    """Return every file of tests."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if names(name)]


def states_a_behaviour(name: str) -> bool:
    """Return whether a name is a clause whose subject is named."""
    words = name.split("_")
    return len(words) >= WORDS and words[0] not in {"who", "whoever", "whom", "whose", "what", "whatever"}


@pytest.mark.parametrize("path", suites())
def test_every_name_states_a_behaviour(path: str) -> None:
    """A test's name has a subject and a verb, so that a list of names says what the code does."""
    assert [name for name in names(path) if not states_a_behaviour(name)] == []
