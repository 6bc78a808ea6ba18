"""An identity says which rooms its user may enter."""

from __future__ import annotations

import pytest

from ..harness import identity


@pytest.mark.parametrize(
    ("patterns", "room", "allowed"),
    [
        (("*",), "any/thing", True),
        (("a",), "a", True),
        (("a",), "A", False),
        (("a",), "aa", False),
        (("a",), "a\n", False),
        (("team-*",), "team-1/plan", True),
        (("team-*",), "my-team-1", False),
        (("?",), "ab", False),
        (("?",), "?", True),
        (("[team]",), "[team]", True),
        (("[team]",), "t", False),
        (("v[!1]",), "v2", False),
        (("[[]*]",), "[[]a]", True),
        (("[team]-?*",), "[team]-12", True),
        (("a", "b"), "b", True),
        ((), "a", False),
    ],
)
def test_room_is_allowed_where_a_pattern_matches_its_whole_name(
    patterns: tuple[str, ...], room: str, allowed: bool
) -> None:
    """A room is allowed where one of the patterns is all of its name."""
    assert identity.Identity("ann", patterns).allows(room) is allowed
