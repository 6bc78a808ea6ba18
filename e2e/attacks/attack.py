"""The attacks: each has a name, and says what whoever does it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple, TypeAlias

from .raw import Target

KINDS = ("signaling", "sync", "notification")
JSON = ("signaling", "notification")
BOTH = ("open", "tls")
"""Doors of what is otherwise where there is TLS between."""

Act: TypeAlias = Callable[[Target], Awaitable[Collection[str]]]


class Attack(NamedTuple):
    """One attack.

    Attributes:
        name: what it is called.
        gets: by server, all that its connections and messages may be answered with: HTTP statuses, close codes, types
            of messages, codes of errors, ``cut`` (without a word), ``slowed`` and ``ignored``.
        bound: those of them that show that the attack went beyond the bound that it is about: it gets all of these.
        slow: whether it waits until the server's patience ends.
        doors: how the servers are set up that it is meant for; see `doors`.
        act: does it, and returns what it was answered with.
    """

    name: str
    gets: Mapping[str, frozenset[str]]
    bound: frozenset[str]
    slow: bool
    doors: Collection[str]
    act: Act

    @property
    def about(self) -> str:
        """What is done."""
        assert self.act.__doc__ is not None
        return self.act.__doc__.strip()

    @property
    def row(self) -> str:
        """The attack's row in docs/attacks.md."""
        by_answers: dict[str, list[str]] = {}
        for kind, answers in self.gets.items():
            by_answers.setdefault(", ".join(sorted(answers)), []).append(kind)
        several = len(by_answers) > 1
        gets = "; ".join(f"{', '.join(kinds)}: {each}" if several else each for each, kinds in by_answers.items())
        where = "all" if len(self.gets) == len(KINDS) else ", ".join(self.gets)
        setup = "" if "open" in self.doors else f" ({', '.join(self.doors)})"
        return f"| {self.name} | {where}{setup} | {self.about} | {gets} |"

    def exceeds_bound(self, kind: str, got: Collection[str]) -> bool:
        """Whether what an attack got shows that it exceeded the bound that it is about."""
        return self.bound & self.gets[kind] <= set(got)

    def check(self, kind: str, got: Collection[str]) -> None:
        """Fail if an attack on a server got what it should not, nothing, or nothing that shows that it went too far."""
        assert got
        assert set(got) <= self.gets[kind]
        assert self.exceeds_bound(kind, got), f"the attack did not exceed the bound that it is about: it got {got}"


ATTACKS: list[Attack] = []


def attack(
    *gets: str,
    servers: Collection[str] = KINDS,
    slow: bool = False,
    doors: Collection[str] = ("open",),
    bound: Collection[str] = (),
    **others: Collection[str],
) -> Callable[[Act], Act]:
    """Add what a function does to the attacks, under the function's name.

    Args:
        gets: what the attacker gets.
        servers: those that it is meant for.
        slow: whether it waits until the server's patience ends.
        doors: how the servers are set up that it is meant for.
        bound: what it gets, of what its server gives at all, when it goes beyond the bound that it is about.
        others: what the attacker gets from a server that answers otherwise.
    """

    def add(act: Act) -> Act:
        answers = {kind: frozenset(others.get(kind, gets)) for kind in servers}
        ATTACKS.append(Attack(act.__name__.replace("_", "-"), answers, frozenset(bound), slow, doors, act))
        return act

    return add
