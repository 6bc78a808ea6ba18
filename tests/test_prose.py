"""The documents are in plain English: what of that can be counted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDTH = 120
"""Columns of a line of prose."""
RATE = 2
"""Occurrences of "who", "whoever" and "what is" that 1,000 words may have."""
PHRASES = re.compile(r"\b(?:who|whoever|what is|what's)\b", re.IGNORECASE)
START = re.compile(r"(?:^|[.!?:;|]\s+|^\W+)(?:Who|Whoever|What is|What's)\b")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Return every Markdown file of the repository, except for recorded results."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if not name.startswith("bench/results/")]


def text_of(page: str) -> str:
    """Return a page without its code."""
    return FENCED.sub("", (ROOT / page).read_text())


@pytest.mark.parametrize("page", pages())
def test_no_sentence_begins_with_a_pronoun_clause(page: str) -> None:
    """A sentence begins with its subject, not with "Who", "Whoever" or "What is"."""
    assert [line for line in text_of(page).splitlines() if START.search(line)] == []


@pytest.mark.parametrize("page", pages())
def test_few_pronoun_clauses(page: str) -> None:
    """A page names its subjects: "who", "whoever" and "what is" are rare in it, tables included."""
    text = text_of(page)
    found = [line for line in text.splitlines() if PHRASES.search(line)]
    assert sum(len(PHRASES.findall(line)) for line in found) <= RATE * len(text.split()) / 1000, found


@pytest.mark.parametrize("page", pages())
def test_lines_of_prose_are_short(page: str) -> None:
    """A line of prose fits into 120 columns; a table or a link does not have to."""
    lines = [line for line in text_of(page).splitlines() if not line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > WIDTH and "](" not in line] == []
