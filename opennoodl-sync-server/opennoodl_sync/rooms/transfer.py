"""A large answer to step 1, sent as several messages: a client on a slow line makes progress, and does not give up."""

from ..y_protocol import step_2, update_message
from ..yjs.difference import Difference
from ..yjs.document import Document
from ..yjs.lib0 import Steps
from ..yjs.segment import Segment


class Transfer:
    """Makes the messages of an answer, one after the other.

    All are updates but the last one: with step 2, y-websocket takes the document to be complete.

    Args:
        state_vector: what the client has.

    Attributes:
        ended: whether the last message was made.
    """

    def __init__(self, state_vector: bytes) -> None:
        self.ended = False
        self._state_vector = state_vector
        self._answer: Difference | None = None
        self._held: bytes | None = None  # made already: whether it is the last one is not known yet

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return self._answer is not None

    @property
    def memory(self) -> int:
        """Bytes that it takes, besides parts of the document and the message that is being made."""
        return len(self._state_vector) if self._answer is None else self._answer.memory

    def superseded(self, document: Document) -> list[Segment]:
        """Return the segments that are in memory for this transfer alone, since the document has other ones now."""
        return [] if self._answer is None else document.superseded(self._answer)

    def begin(self, document: Document) -> None:
        """Begin with what the client lacks of a document."""
        self._answer = document.difference(self._state_vector)
        self._state_vector = b""

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
