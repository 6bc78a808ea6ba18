"""Errors that the edge and the domain share; this module loads nothing else of the edge."""

from msgspec import UNSET, Raw, UnsetType


class StartError(Exception):
    """The server cannot start; the text is one line that says why."""


class CloseConnection(Exception):
    """Closes the connection with `code` and a `reason` that its client may read (the first 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class BadMessage(Exception):
    """A message that is answered with an error and changes nothing.

    Args:
        code: for programs, in kebab-case.
        error: the sentence for people.
        request_id: the message's ``requestId``, to be echoed.
    """

    def __init__(self, code: str, error: str, request_id: Raw | UnsetType = UNSET) -> None:
        super().__init__(code, error)
        self.code = code
        self.error = error
        self.request_id = request_id
