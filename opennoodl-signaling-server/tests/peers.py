"""Fake peers for tests that perform the effects of rooms themselves."""

from __future__ import annotations

from opennoodl_signaling.edge.errors import BadMessage
from opennoodl_signaling.edge.peer import Peer
from opennoodl_signaling.rooms.model import Client


class NamedPeer(Peer):
    """A peer with a name. Every call fails, because the domain has to return effects instead."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def write_soon(self, frame: bytes) -> None:
        """Fail, since a message is an effect."""
        raise AssertionError(f"the domain wrote {frame!r} to {self.name}")

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Fail, since a close is an effect."""
        raise AssertionError(f"the domain closed {self.name} with {code} {reason}")

    def note_error(self, bad: BadMessage) -> None:
        """Fail, since an error is an effect."""
        raise AssertionError(f"the domain told {self.name} of {bad}")

    def probe(self) -> None:
        """Fail, since a probe is an effect."""
        raise AssertionError(f"the domain probed {self.name}")

    async def is_alive(self, seconds: float) -> bool:
        """Fail, since the question whether a peer is alive is an effect."""
        raise AssertionError(f"the domain asked whether {self.name} is alive")


def named(name: str | int, address: str = "") -> Client:
    """Return a client with a `NamedPeer`."""
    return Client(NamedPeer(str(name)), address)
