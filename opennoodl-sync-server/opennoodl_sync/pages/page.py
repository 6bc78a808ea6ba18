"""The answer to a request for a page."""

from http import HTTPStatus
from typing import Any

Page = tuple[HTTPStatus, dict[str, Any]]
"""The status, and the body, which is sent as JSON."""


class PageError(Exception):
    """A request that is answered with an error.

    Args:
        status: of the answer.
        error: the sentence for people.
    """

    def __init__(self, status: HTTPStatus, error: str) -> None:
        super().__init__(error)
        self.status = status
