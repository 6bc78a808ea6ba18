"""The answers to step 1: what each client lacks of a document, small answers at once and large ones as transfers."""

from collections.abc import Hashable
from typing import NamedTuple

from ..y_protocol import step_2, update_message
from ..yjs.difference import Difference
from ..yjs.document import Document
from .slow_readers import SlowReaders

MAX_ANSWER = 262_144
"""Bytes of an answer to step 1 that is sent in the same turn; a larger answer is sent as a transfer."""
MAX_STEPS = 8
"""Steps of computing differences for such answers in one turn."""


class LargeAnswer(NamedTuple):
    """The part of the document that a client lacks at the end of a turn, without later changes.

    Attributes:
        asked: the state vector of the client.
        difference: the updates that the client lacks.
        state_vector: the state vector of the client after the answer.
        version: the version of the document that the answer includes.
    """

    asked: bytes
    difference: Difference
    state_vector: bytes
    version: int


class Answers:
    """The unanswered steps 1 of the clients of one room.

    Args:
        document: the document of the room.
        synced: the clients that get updates; an answer adds its client, and the start of a large one removes it.
        slow: the clients that do not read; they are answered when they have read.

    Attributes:
        asked: by client, the state vector of its unanswered step 1.
    """

    def __init__(self, document: Document, synced: set[Hashable], slow: SlowReaders) -> None:
        self.asked: dict[Hashable, bytes] = {}
        self._document = document
        self._synced = synced
        self._slow = slow
        self._transferring: set[Hashable] = set()  # clients whose first large answer is being sent

    def ask(self, client: Hashable, state_vector: bytes) -> None:
        """Answer a step 1 at the end of the turn; a client that is being sent a large answer is answered after it."""
        if client not in self._transferring:
            self._ask(client, state_vector)

    def remove(self, client: Hashable) -> None:
        """Remove a client that has left."""
        self.asked.pop(client, None)
        self._transferring.discard(client)

    def transferred(self, client: Hashable, state_vector: bytes, version: int) -> None:
        """Record that a large answer was sent. The next flush sends the client the changes since, then updates.

        Args:
            client: the client.
            state_vector: the document's state vector at the start of the answer.
            version: the document's version at that time.
        """
        if client not in self._transferring:
            return
        if version == self._document.version and not self._document.changed and client not in self._slow:
            self._transferring.discard(client)
            self._synced.add(client)
        else:
            self._ask(client, state_vector)

    def ask_again(self, client: Hashable, state_vector: bytes) -> None:
        """Answer a step 1 with the next flush; `state_vector` is the client's, whose large answer did not start."""
        self._transferring.discard(client)
        self._ask(client, state_vector)

    def take(self) -> tuple[list[tuple[Hashable, bytes]], list[tuple[Hashable, LargeAnswer]]]:
        """Return the answers to every step 1: (client, message) pairs and (client, large answer) pairs."""
        replies: list[tuple[Hashable, bytes]] = []
        large: list[tuple[Hashable, LargeAnswer]] = []
        has: bytes | None = None  # the document's state vector; encoding it for many clients takes long
        steps = MAX_STEPS  # of all answers, since many clients may send step 1 in one turn
        for client, state_vector in self.asked.items():
            answer, steps = self._answer(state_vector, steps)
            if answer is None:
                has = self._document.state_vector_for_difference() if has is None else has
                difference = self._document.difference(state_vector)
                large.append((client, LargeAnswer(state_vector, difference, has, self._document.version)))
            else:
                replies += [(client, message) for message in answer]
            if answer is None and client not in self._transferring:
                # Updates would arrive before their dependencies, which some clients (yrs) do not apply.
                self._synced.discard(client)
                self._transferring.add(client)
            else:
                # A second large answer may have only deletions, which every answer repeats.
                self._transferring.discard(client)
                self._synced.add(client)
        self.asked = {}
        return replies, large

    def _answer(self, state_vector: bytes, steps: int) -> tuple[list[bytes] | None, int]:
        """Return the answer to a step 1, and the remaining steps.

        Args:
            state_vector: the state vector of the client.
            steps: limit of steps without a message.

        Returns:
            a list of messages, or None if the answer may be large; and the number of steps that remain.
        """
        if steps < 0:
            return None, steps
        updates: list[bytes] = []
        for update in self._document.difference(state_vector):
            if update is None:
                steps -= 1
            else:
                updates.append(update)
            if steps < 0 or sum(map(len, updates)) > MAX_ANSWER:
                return None, steps
        return [*map(update_message, updates[:-1]), step_2(updates[-1])], steps

    def _ask(self, client: Hashable, state_vector: bytes) -> None:
        if client in self._slow:
            self._slow.ask(client, state_vector)
        else:
            self.asked[client] = state_vector
