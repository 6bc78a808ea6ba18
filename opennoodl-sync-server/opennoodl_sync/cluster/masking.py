"""Masked frames, as clients send them (RFC 6455, 5.3)."""

import os

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets does the same if its extension was not compiled
    from websockets.utils import apply_mask

FIN = 0x80
MASKED = 0x80
KEY = 4
"""Bytes of a masking key."""
KEYS = 1024
"""Keys that are drawn at a time: one system call for each key would be a quarter of the cost of a frame."""


class Masking:
    """Makes masked frames, each with a new unpredictable key."""

    def __init__(self) -> None:
        self._keys = b""
        self._next = 0

    def frame(self, opcode: Opcode, payload: bytes) -> bytes:
        """Return one complete frame (with FIN) that carries `payload`."""
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
