"""A large answer to step 1, sent as several messages, so that a client on a slow line stays connected."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from ..memory.budget import MemoryBudget
from ..y_protocol import step_2, update_message
from ..yjs.document import Document
from ..yjs.lib0 import Steps
from ..yjs.segment import Segment
from .answers import LargeAnswer
from .room import Room
from .timeslicer import Outcome, TimeSlicer

MAX_AHEAD = 262_144
"""Bytes in a client's write buffer below which the next part of a large answer is sent."""
LOOK_AGAIN = 0.05
"""Seconds between two checks of the write buffer."""


class Transfer:
    """Makes the messages of an answer, one after the other.

    All are update messages except for the last one, a step 2: y-websocket then considers the document complete.

    Args:
        answer: the large answer.

    Attributes:
        answer: the large answer.
        ended: whether the last message was made.
    """

    def __init__(self, answer: LargeAnswer) -> None:
        self.answer = answer
        self.ended = False
        self._held: bytes | None = None  # the next update, until it is known whether it is the last one

    @property
    def memory(self) -> int:
        """Bytes of memory for the transfer, without parts of the document and the next message."""
        return len(self.answer.state_vector) + self.answer.difference.memory

    def superseded(self, document: Document) -> list[Segment]:
        """Return the segments that only this transfer keeps in memory, since the document has replaced them."""
        return document.superseded(self.answer.difference)

    def next_message(self) -> Steps[bytes]:
        """Return the next message."""
        for update in self.answer.difference:
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
    """A client that gets a large answer."""

    address: str

    @property
    def buffered(self) -> int:
        """Bytes in the client's write buffer."""


C = TypeVar("C", bound=Client)


class Transfers(Generic[C]):
    """The running transfers of large answers, at most one for each client.

    Args:
        budget: decides whether there is memory for another one.
        slicer: makes the parts.
        send: is called with a client and its next message.
        sent: is called with a client and its transfer when that has ended.
        ask_again: is called with a client and its state vector if its transfer could not start. A new answer is
            necessary, since the document has changed.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        slicer: TimeSlicer,
        send: Callable[[C, bytes], None],
        sent: Callable[[C, Transfer], None],
        ask_again: Callable[[C, bytes], None],
    ) -> None:
        self._budget = budget
        self._slicer = slicer
        self._send = send
        self._sent = sent
        self._ask_again = ask_again
        self._transfers: dict[C, tuple[Room, Transfer]] = {}
        self._waiting: dict[C, bytes] = {}  # by client without a transfer yet: its state vector

    def memory(self) -> dict[C, int]:
        """Return the bytes of memory of each client's transfer; several may share a part of a document."""
        memory = {client: len(state_vector) for client, state_vector in self._waiting.items()}
        seen = set[int]()
        for client, (room, transfer) in self._transfers.items():
            old = [segment for segment in transfer.superseded(room.document) if id(segment) not in seen]
            seen.update(map(id, old))
            size = transfer.memory + sum(segment.memory for segment in old)
            memory[client] = memory.get(client, 0) + size
        return memory

    def begin(self, client: C, room: Room, answer: LargeAnswer) -> None:
        """Start a transfer if there is memory for it; otherwise request a new answer later.

        A running transfer is finished first, since the state vector of a slow client includes it; then a new answer is
        requested. Of several later answers, the first one includes the content of the others.
        """
        if client in self._transfers:
            self._waiting.setdefault(client, answer.asked)
        elif self._budget.may_transfer:
            transfer = Transfer(answer)
            self._transfers[client] = room, transfer
            self._budget.begin_transfer()
            self._make_part(client, transfer)
        else:
            self._waiting[client] = answer.asked
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._try_again, client)

    def end(self, client: C) -> None:
        """Cancel a client's transfer and its waiting request."""
        self._waiting.pop(client, None)
        if self._transfers.pop(client, None) is not None:
            self._budget.end_transfer()

    def _goes_on(self, client: C, transfer: Transfer) -> bool:
        """Return whether `transfer` is still the client's."""
        return self._transfers.get(client, (None, None))[1] is transfer

    def _try_again(self, client: C) -> None:
        """Request a new answer for a client, when there is memory for it."""
        if client not in self._waiting:
            return
        if self._budget.may_transfer:
            self._ask_again(client, self._waiting.pop(client))
        else:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._try_again, client)

    def _make_part(self, client: C, transfer: Transfer) -> None:
        """Make the next part; wait first while the client's write buffer is large."""
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
        follows = self._waiting.pop(client, None)
        self.end(client)
        if follows is not None:
            self._ask_again(client, follows)
        self._sent(client, transfer)
