"""Memory: what large documents leave behind."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's, which other libraries do not have, and may not need: of what is free, glibc keeps whatever lies below
something that is not, which after a large document can be all of it."""


def give_back() -> None:
    """Give free memory back to the operating system. It takes some milliseconds, without Python's lock."""
    if _trim is not None:
        _trim(0)
