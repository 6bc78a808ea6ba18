"""Reasons not to read from a client."""

from __future__ import annotations

from enum import Enum


class ReadPause(Enum):
    """A reason not to read from a client; a server declares its own reasons in a subclass.

    The value of a member says whether messages that have been read already wait too.

    Attributes:
        holds_messages: that value.
    """

    def __new__(cls, holds_messages: bool) -> ReadPause:  # noqa: ARG004  # which `__init__` takes
        """Make a member; the value of each is its number, since members with equal values would be one."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, holds_messages: bool) -> None:
        self.holds_messages = holds_messages


class EdgePause(ReadPause):
    """The reasons of the edge."""

    OPENING = False
    """The application has not opened the connection yet."""
    RATE = True
    """The client is over its rate limit."""
    WORK = True
    """A message of the client is being worked on, such as one with a token."""
