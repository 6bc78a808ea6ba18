"""The inbox of one user, but for the notifications in it: what is known of them all without reading one."""

from msgspec import Struct

HISTORY = 1000
"""Changes of an inbox that a device may have missed and still be told one by one."""


class Inbox(Struct, rename="camel", kw_only=True):
    """The state of one inbox.

    Attributes:
        user_id: whose it is.
        sequence: the number of its last change. The first number is the time in milliseconds, so an inbox
            that was forgotten and is made anew does not repeat one.
        total: notifications in it.
        unread: how many of them are.
        newest: when the newest one ever came in.
        due: when the next one expires; in an empty inbox, when the inbox itself may be forgotten.
        cleared: the number of the change that deleted everything last.
    """

    user_id: str
    sequence: int
    total: int = 0
    unread: int = 0
    newest: str = ""
    due: str = ""
    cleared: int = 0

    def remembers(self, since: int) -> bool:
        """Return whether everything that changed after number `since` can still be told."""
        return self.sequence - HISTORY <= since <= self.sequence
