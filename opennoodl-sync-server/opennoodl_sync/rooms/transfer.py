"""A large answer to step 1, sent as several messages: a client on a slow line makes progress, and does not give up."""

from collections.abc import Iterator

from ..y_protocol import step_2, update_message
from ..yjs.lib0 import Steps


class Transfer:
    """Makes the messages of an answer, one after the other.

    All are updates but the last one: with step 2, y-websocket takes the document to be complete.

    Args:
        state_vector: what the client has.

    Attributes:
        begun: whether `begin` was called; before that, a transfer takes no memory but the state vector.
        ended: whether the last message was made.
    """

    def __init__(self, state_vector: bytes) -> None:
        self.state_vector = state_vector
        self.begun = self.ended = False
        self._answer: Iterator[bytes | None] = iter(())
        self._held: bytes | None = None  # made already: whether it is the last one is not known yet

    def begin(self, answer: Iterator[bytes | None]) -> None:
        """Begin with what the client lacks; see `Document.difference`."""
        self.begun = True
        self._answer = answer

    def next_message(self) -> Steps[bytes]:
        """Return the next message."""
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
