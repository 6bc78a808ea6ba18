"""The bounds of memory where no setting says them, and of one message."""

OWN_MEMORY = 134_217_728
"""Bytes that a server takes by itself, with LevelDB, the process that compacts, and one large message."""
LARGE_MESSAGES_SHARE = 16
"""One byte in so many of `MAX_MEMORY` is for large messages that arrive, or for one: handling it takes several times
its size."""
SMALLEST_BOUND = 1_048_576
"""Bytes that a message may have in any case, unless `MAX_MESSAGE_SIZE` is less."""


def message_bound(setting: int, share: int) -> int:
    """Return how many bytes a message may have: `setting`, or the `share` of memory for it if that is less; 0 is none.

    Both are 0 where there is no bound.
    """
    return min(filter(None, (setting, share and max(share, SMALLEST_BOUND))), default=0)


def default_limit(available: int | None) -> int:
    """Return what documents and output may take where nobody says; the other half is for work in progress."""
    return 0 if available is None else max((available - OWN_MEMORY) // 2, available // 8)
