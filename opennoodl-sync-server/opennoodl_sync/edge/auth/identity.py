"""The identity: who is at the other end of a connection, proven by a token, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct

Access = Literal["read", "write"]
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Identity(Struct, frozen=True):
    """A proven user.

    Attributes:
        user: the id under which they are known to everybody.
        rooms: patterns of the rooms that they may enter: ``*`` is any text, ``?`` any character.
        access: whether they may change what is in a room or only see it.
        services: whether they speak for the community rather than for a person.
        expires: seconds since 1970 at which the proof ends; None if it has no end.
    """

    user: str
    rooms: tuple[str, ...] = ("*",)
    access: Access = "write"
    services: bool = False
    expires: float | None = None

    def allows(self, room: str) -> bool:
        """Return whether they may enter a room."""
        names, patterns = _compiled(self.rooms)
        return room in names or patterns(room) is not None


@lru_cache(maxsize=1024)
def _compiled(rooms: tuple[str, ...]) -> tuple[frozenset[str], Callable[[str], object]]:
    """Return the names among patterns, and what matches the others: a token can have a thousand of them."""
    patterns = [pattern for pattern in rooms if "*" in pattern or "?" in pattern]
    # To fnmatch a bracket begins a set of characters; to the author of a pattern it is a character.
    expressions = [translate(pattern.replace("[", "[[]")) for pattern in patterns]
    return frozenset(rooms).difference(patterns), re.compile("|".join(expressions) or "(?!)").match


class AuthError(Exception):
    """A token that proves nothing; the text says why, to whoever has shown it.

    Args:
        error: the sentence.
        refusal: the code of `refusals`.

    Attributes:
        code: `unauthorized`, or `auth-unavailable` where it could not be found out.
    """

    def __init__(self, error: str, refusal: str = "token-invalid") -> None:
        super().__init__(error)
        self.refusal = refusal
        self.code = refusal if refusal == "auth-unavailable" else "unauthorized"
