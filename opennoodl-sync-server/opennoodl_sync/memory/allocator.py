"""Memory: what large documents leave behind."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's, which other libraries do not have, and may not need: of what is free, glibc keeps whatever lies below
something that is not, which after a large document can be all of it."""

_set_option = getattr(ctypes.CDLL(None), "mallopt", None)
MMAP_THRESHOLD = -3
"""The name of an option of glibc's ``mallopt``."""
OWN_MAPPING = 262_144
"""Bytes of a block that goes back by itself when it is free."""


def keep_large_blocks_apart() -> None:
    """Have every large block go back to the operating system when it is free.

    By itself, glibc does so for fewer blocks the larger those are that were freed, and then keeps much between others.
    """
    if _set_option is not None:
        _set_option(MMAP_THRESHOLD, OWN_MAPPING)


def give_back() -> None:
    """Give free memory back to the operating system. It takes some milliseconds, without Python's lock."""
    if _trim is not None:
        _trim(0)
