"""Every test can fail: it asserts something, or its docstring says that the absence of an error is the result."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUITES = [*ROOT.glob("opennoodl-*/tests"), ROOT / "e2e", ROOT / "tests", ROOT / "bench"]
FAILING = {"raises", "warns", "deprecated_call", "fail", "RaisesGroup", "runTest"}
"""Functions of pytest that fail a test, and Hypothesis's that runs a state machine with its invariants."""
WAITING = {"timeout", "wait_for"}
"""Functions of asyncio that fail a test when an event does not come."""
WORDS = ("no error", "without an error", "is not an error", "does not fail", "do not fail", "does not raise")
"""A docstring with one of these says that the absence of an error is what a test shows."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(suite: Path) -> list[Path]:
    """Return the Python files of a suite."""
    return [path for path in suite.rglob("*.py") if "node_modules" not in path.parts]


@cache
def functions(path: Path) -> list[Function]:
    """Return every function and method in a file."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function)]


@cache
def called(function: Function) -> set[str]:
    """Return the names of all that a function calls, or takes as an argument."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = [node.func for node in nodes] + [each for node in nodes for each in node.args]
    return {
        name.attr if isinstance(name, ast.Attribute) else name.id
        for name in names
        if isinstance(name, ast.Attribute | ast.Name)
    }


@cache
def asserts(function: Function) -> bool:
    """Return whether a function itself asserts something, or waits for an event with a bound."""
    return bool((FAILING | WAITING) & called(function)) or any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Raise) and "AssertionError" in ast.dump(node))
        for node in ast.walk(function)
    )


@cache
def is_fixture(function: Function) -> bool:
    """Return whether a function is a fixture of pytest."""
    return any("fixture" in ast.dump(decorator) for decorator in function.decorator_list)


@cache
def helpers(suite: Path, file: Path) -> set[str]:
    """Return the names of functions that assert something, themselves or through others, as a file sees them.

    A name is that of a function in the file itself, or else of one that no file of tests has for itself.
    """
    shared = [path for path in sources(suite) if not path.name.startswith("test_") and path != file]
    own = {each.name: each for each in functions(file) if not is_fixture(each)}
    found = [each for path in shared for each in functions(path) if each.name not in own and not is_fixture(each)]
    found += own.values()
    names = {each.name for each in found if asserts(each)}
    while more := {each.name for each in found if called(each) & names} - names:
        names |= more
    return names


def without_an_assertion(suite: Path) -> Iterator[str]:
    """Yield the tests that cannot fail but by an error, and do not say that this is what they show."""
    for path in sources(suite):
        for function in functions(path):
            said = (ast.get_docstring(function) or "").lower()
            if (
                function.name.startswith("test_")
                and not asserts(function)
                and not called(function) & helpers(suite, path)
                and not any(word in said for word in WORDS)
            ):
                yield f"{path.relative_to(ROOT)}::{function.name}"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: str(suite.relative_to(ROOT)))
def test_every_test_asserts(suite: Path) -> None:
    """Every test of a suite asserts something or says that the absence of an error is what it shows."""
    assert list(without_an_assertion(suite)) == []
