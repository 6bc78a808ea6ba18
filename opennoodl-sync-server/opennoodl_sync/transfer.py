"""A large answer to step 1, sent as several messages: a client on a slow line makes progress, and does not give up."""

from .protocol import step_2, update_message
from .room import Answer
from .yjs.lib0 import Steps


class Transfer:
    """Makes the messages of an answer, one after the other.

    All are updates but the last one: with step 2, y-websocket takes the document to be complete.

    Args:
        answer: the updates.

    Attributes:
        ended: whether the last message was made.
    """

    def __init__(self, answer: Answer) -> None:
        self.ended = False
        self._answer = answer
        self._held: bytes | None = None  # made already: whether it is the last one is not known yet

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
