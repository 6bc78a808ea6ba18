"""Errors that the edge and the domain share; this module loads nothing else of the edge."""

from msgspec import UNSET, Raw, UnsetType


class StartError(Exception):
    """The server cannot start; the text is one line that says why."""


class CloseConnection(Exception):
    """Closes the connection.

    Args:
        code: for the close frame.
        reason: for the close frame; a client may read its first 123 bytes.
        refusal: the code of `refusals`; empty for that of the close code.
    """

    def __init__(self, code: int, reason: str, refusal: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason, self.refusal = code, reason, refusal


class BadMessage(Exception):
    """A message that is answered with an error and changes nothing.

    Args:
        code: for programs, in kebab-case.
        error: the sentence for people.
        request_id: the message's ``requestId``, to be echoed.
        refusal: the code of `refusals`, where that is more exact than `code`.
    """

    def __init__(self, code: str, error: str, request_id: Raw | UnsetType = UNSET, refusal: str | None = None) -> None:
        super().__init__(code, error)
        self.code = code
        self.error = error
        self.request_id = request_id
        self.refusal = refusal or code
