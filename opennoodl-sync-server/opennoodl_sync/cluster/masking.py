"""Masked frames, as a client of the protocol sends them (RFC 6455, 5.3)."""

import os

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # as the library does where it was not compiled
    from websockets.utils import apply_mask

FIN = 0x80
MASKED = 0x80
KEY = 4
"""Bytes of a masking key."""
KEYS = 1024
"""Keys that are drawn at once: a system call for each would be a quarter of what a frame costs."""


class Masking:
    """Makes frames, each with a key of its own that nobody can predict."""

    def __init__(self) -> None:
        self._keys = b""
        self._next = 0

    def frame(self, opcode: Opcode, payload: bytes) -> bytes:
        """Return one whole frame that carries `payload`."""
        if self._next == len(self._keys):
            self._keys, self._next = os.urandom(KEY * KEYS), 0
        key = self._keys[self._next : self._next + KEY]
        self._next += KEY
        size, first = len(payload), FIN | opcode
        if size < 126:
            head = bytes((first, MASKED | size))
        elif size < 65_536:
            head = bytes((first, MASKED | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, MASKED | 127)) + size.to_bytes(8, "big")
        return head + key + apply_mask(payload, key)
