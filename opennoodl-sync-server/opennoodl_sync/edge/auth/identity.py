"""The identity: the user that a token proves, and the rights of that user."""

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
    """An authenticated user.

    Attributes:
        user: the user id.
        rooms: patterns of the rooms that the user may enter. ``*`` matches any text, ``?`` any character.
        access: whether the user may change a room or only read it.
        services: whether the user is a program of the community rather than a person.
        expires: time in seconds since 1970 at which the token expires; None if it does not.
    """

    user: str
    rooms: tuple[str, ...] = ("*",)
    access: Access = "write"
    services: bool = False
    expires: float | None = None

    def allows(self, room: str) -> bool:
        """Return whether the user may enter a room."""
        names, patterns = _compiled(self.rooms)
        return room in names or patterns(room) is not None


@lru_cache(maxsize=1024)
def _compiled(rooms: tuple[str, ...]) -> tuple[frozenset[str], Callable[[str], object]]:
    """Return the patterns without wildcards, and one matcher for all others: a token can have many patterns."""
    patterns = [pattern for pattern in rooms if "*" in pattern or "?" in pattern]
    # In fnmatch, a bracket begins a set of characters. In a token, it is a character.
    expressions = [translate(pattern.replace("[", "[[]")) for pattern in patterns]
    return frozenset(rooms).difference(patterns), re.compile("|".join(expressions) or "(?!)").match


class AuthError(Exception):
    """A token is not valid, or cannot be checked; the text tells the client why.

    Args:
        error: a sentence for people.
        refusal: the code in `refusals`.

    Attributes:
        code: the code of the error message: `unauthorized`, or `auth-unavailable` if the token cannot be checked now.
    """

    def __init__(self, error: str, refusal: str = "token-invalid") -> None:
        super().__init__(error)
        self.refusal = refusal
        self.code = refusal if refusal == "auth-unavailable" else "unauthorized"
