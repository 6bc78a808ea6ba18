"""The attacks: each has a name, and declares every answer that the attacker may get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple, TypeAlias

from .raw_connection import Target

KINDS = ("signaling", "sync", "notification")
JSON = ("signaling", "notification")
BOTH = ("open", "tls")
"""Doors of an attack that is different over TLS."""

Act: TypeAlias = Callable[[Target], Awaitable[Collection[str]]]


class Attack(NamedTuple):
    """One attack.

    Attributes:
        name: the name in the tables of docs/attacks.md and docs/attacks-messages.md.
        gets: by server, every answer that it may get: HTTP statuses, close codes, message types, error codes, ``cut``
            (the connection ends without an answer), ``slowed`` and ``ignored``.
        bound: the answers that show that the attack exceeded the bound that it tests. It must get all of them.
        slow: whether the attack waits for a timeout of the server.
        setups: the setups of the server that it needs; see `setups.py`.
        act: runs the attack, and returns the answers.
    """

    name: str
    gets: Mapping[str, frozenset[str]]
    bound: frozenset[str]
    slow: bool
    setups: Collection[str]
    act: Act

    @property
    def about(self) -> str:
        """A description of the attack, in one sentence or two."""
        assert self.act.__doc__ is not None
        return self.act.__doc__.strip()

    @property
    def row(self) -> str:
        """The attack's row in the tables of the documents."""
        by_answers: dict[str, list[str]] = {}
        for kind, answers in self.gets.items():
            by_answers.setdefault(", ".join(sorted(answers)), []).append(kind)
        several = len(by_answers) > 1
        gets = "; ".join(f"{', '.join(kinds)}: {each}" if several else each for each, kinds in by_answers.items())
        where = "all" if len(self.gets) == len(KINDS) else ", ".join(self.gets)
        setup = "" if "open" in self.setups else f" ({', '.join(self.setups)})"
        return f"| {self.name} | {where}{setup} | {self.about} | {gets} |"

    def exceeds_bound(self, kind: str, got: Collection[str]) -> bool:
        """Return whether the answers show that the attack exceeded the bound that it tests."""
        return self.bound & self.gets[kind] <= set(got)

    def check(self, kind: str, got: Collection[str]) -> None:
        """Fail if a server gave no answer, an answer that is not allowed, or none that shows an exceeded bound."""
        assert got
        assert set(got) <= self.gets[kind]
        assert self.exceeds_bound(kind, got), f"the attack did not exceed the bound that it tests: it got {got}"


ATTACKS: list[Attack] = []


def attack(
    *gets: str,
    servers: Collection[str] = KINDS,
    slow: bool = False,
    setups: Collection[str] = ("open",),
    bound: Collection[str] = (),
    **others: Collection[str],
) -> Callable[[Act], Act]:
    """Register a function as an attack under its name.

    Args:
        gets: the answers that the attacker may get.
        servers: the servers that it attacks.
        slow: whether it waits for a timeout of the server.
        setups: the setups of the server that it needs.
        bound: the answers, as far as its server gives them, that show that the attack exceeded its bound.
        others: the answers of servers that differ from `gets`.
    """

    def add(act: Act) -> Act:
        answers = {kind: frozenset(others.get(kind, gets)) for kind in servers}
        ATTACKS.append(Attack(act.__name__.replace("_", "-"), answers, frozenset(bound), slow, setups, act))
        return act

    return add
