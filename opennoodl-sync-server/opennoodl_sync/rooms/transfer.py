"""A large answer to step 1, sent as several messages: a client on a slow line makes progress, and does not give up."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from ..memory.budget import MemoryBudget
from ..y_protocol import step_2, update_message
from ..yjs.difference import Difference
from ..yjs.document import Document
from ..yjs.lib0 import Steps
from ..yjs.segment import Segment
from .room import Room
from .timeslicer import Outcome, TimeSlicer

MAX_AHEAD = 262_144
"""Bytes that may wait for a client when the next part of a large answer is sent."""
LOOK_AGAIN = 0.05
"""Seconds after which it is seen again whether they do."""


class Transfer:
    """Makes the messages of an answer, one after the other.

    All are updates but the last one: with step 2, y-websocket takes the document to be complete.

    Args:
        state_vector: what the client has.

    Attributes:
        state_vector: what the client has; after `begin`, what it will have in the end.
        version: after `begin`, the version of the document that it will have.
        ended: whether the last message was made.
    """

    def __init__(self, state_vector: bytes) -> None:
        self.state_vector = state_vector
        self.version = 0
        self.ended = False
        self._answer: Difference | None = None
        self._held: bytes | None = None  # made already: whether it is the last one is not known yet

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return self._answer is not None

    @property
    def memory(self) -> int:
        """Bytes that it takes, besides parts of the document and the message that is being made."""
        return len(self.state_vector) + (0 if self._answer is None else self._answer.memory)

    def superseded(self, document: Document) -> list[Segment]:
        """Return the segments that are in memory for this transfer alone, since the document has other ones now."""
        return [] if self._answer is None else document.superseded(self._answer)

    def begin(self, document: Document) -> None:
        """Begin with what the client lacks of a document."""
        self._answer = document.difference(self.state_vector)
        self.state_vector, self.version = document.state_vector(), document.version

    def next_message(self) -> Steps[bytes]:
        """Return the next message; call `begin` before it."""
        assert self._answer is not None
        for update in self._answer:
            if update is None:
                yield
            elif self._held is None:
                self._held = update
            else:
                held, self._held = self._held, update
                return update_message(held)
        assert self._held is not None  # there is at least one update in every answer
        self.ended = True
        return step_2(self._held)


class Client(Protocol):
    """A client that is sent a large answer."""

    address: str

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""


C = TypeVar("C", bound=Client)


class Transfers(Generic[C]):
    """The large answers that are being sent, at most one for each client.

    Args:
        budget: says whether there is memory for one more.
        slicer: makes the parts.
        send: is called with a client and its next message.
        sent: is called with a client and its transfer, which has ended.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        slicer: TimeSlicer,
        send: Callable[[C, bytes], None],
        sent: Callable[[C, Transfer], None],
    ) -> None:
        self._budget = budget
        self._slicer = slicer
        self._send = send
        self._sent = sent
        self._transfers: dict[C, tuple[Room, Transfer]] = {}
        self._next: dict[C, bytes] = {}  # state vectors of the answers that follow

    def memory(self) -> dict[C, int]:
        """Return the bytes that are kept for each client; several may keep the same part of a document."""
        memory = {}
        seen = set[int]()
        for client, (room, transfer) in self._transfers.items():
            old = [segment for segment in transfer.superseded(room.document) if id(segment) not in seen]
            seen.update(map(id, old))
            memory[client] = transfer.memory + sum(segment.memory for segment in old) + len(self._next.get(client, b""))
        return memory

    def begin(self, client: C, room: Room, state_vector: bytes) -> None:
        """Send a client what it lacks of a room's document, after an answer that is being sent.

        That answer is sent to its end: the state vector of a client that was slow for a while counts on it. Of several
        answers that follow, the first one has what the others would have.
        """
        if client in self._transfers:
            self._next.setdefault(client, state_vector)
            return
        transfer = Transfer(state_vector)
        self._transfers[client] = room, transfer
        self._begin(client, room, transfer)

    def end(self, client: C) -> None:
        """Send a client nothing more."""
        self._next.pop(client, None)
        _, transfer = self._transfers.pop(client, (None, None))
        if transfer is not None and transfer.begun:
            self._budget.end_transfer()

    def _goes_on(self, client: C, transfer: Transfer) -> bool:
        """Return whether the client is still there."""
        return self._transfers.get(client, (None, None))[1] is transfer

    def _begin(self, client: C, room: Room, transfer: Transfer) -> None:
        """Begin when there is memory for it, and the room is not busy."""
        if not self._goes_on(client, transfer):
            return
        if not self._budget.may_transfer:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._begin, client, room, transfer)
        elif room.busy:
            self._slicer.when_free(room, partial(self._begin, client, room, transfer))
        else:
            transfer.begin(room.document)
            self._budget.begin_transfer()
            self._make_part(client, transfer)

    def _make_part(self, client: C, transfer: Transfer) -> None:
        """Make the next part, when a client that reads slowly has read enough."""
        if not self._goes_on(client, transfer):
            return
        if client.buffered > MAX_AHEAD:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._make_part, client, transfer)
        else:
            self._slicer.do_beside(transfer.next_message(), partial(self._made, client, transfer), client.address)

    def _made(self, client: C, transfer: Transfer, made: Outcome[bytes]) -> None:
        if not self._goes_on(client, transfer):
            return
        self._send(client, made())
        if not transfer.ended:
            self._make_part(client, transfer)
            return
        room, follows = self._transfers[client][0], self._next.get(client)
        self.end(client)
        if follows is not None:
            self.begin(client, room, follows)
        self._sent(client, transfer)
