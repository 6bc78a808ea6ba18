"""The frame that nearly every message is: a single one that is there whole.

It is made here, once for all its receivers, and read here without a parser that could wait for more bytes.
Everything else, and whatever is wrong, is left to the websockets library, so there is one source of errors
and close codes.
"""

try:
    from websockets.speedups import apply_mask
except ImportError:  # as the library does where it was not compiled
    from websockets.utils import apply_mask

TEXT, BINARY = 0x81, 0x82
"""How a frame that is a whole message begins (RFC 6455, 5.2): FIN, no reserved bit, the opcode."""
LARGEST_PART = 65_536
"""Bytes of the largest message whose frame may come in parts; to put together larger ones is left to the library."""


def encode_frame(payload: bytes, *, text: bool) -> bytes:
    """Return the one unmasked frame (RFC 6455, 5.2) that carries `payload` to any number of clients."""
    opcode = 0x81 if text else 0x82
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def message_at(data: bytes, start: int, max_size: int | None) -> tuple[bytes, bool, int] | None:
    """Return the message whose one masked frame begins at `start` and is all there.

    Args:
        data: what a client sent.
        start: where in it a frame begins.
        max_size: bytes of the largest message; None for any.

    Returns:
        the message, whether it is text, and where its frame ends; None if anything else is at `start`.
    """
    payload = start + 6  # after two bytes and the mask
    if len(data) < payload:
        return None
    text = data[start] == TEXT
    size = data[start + 1] - 0x80  # negative without the mask bit
    if (not text and data[start] != BINARY) or size < 0:
        return None
    if size > 125:
        extended = 2 if size == 126 else 8
        payload += extended
        size = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
    end = payload + size
    if end > len(data) or (max_size is not None and size > max_size):
        return None
    return apply_mask(data[payload:end], data[payload - 4 : payload]), text, end


def begins(data: bytes, start: int, max_size: int | None) -> bool:
    """Return whether what is at `start`, and is no message yet, may be one for `message_at` when more has come.

    Args:
        data: what a client sent.
        start: where in it a frame begins; before its end.
        max_size: bytes of the largest message; None for any.
    """
    left = len(data) - start
    if data[start] not in (TEXT, BINARY):
        return False
    if left < 2:
        return True
    size = data[start + 1] - 0x80
    if size > 125:
        extended = 2 if size == 126 else 8
        if left < 2 + extended:
            return True
        size = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
    return 0 <= size <= (LARGEST_PART if max_size is None else min(max_size, LARGEST_PART))


def is_utf8(message: bytes) -> bool:
    """Return whether a message is text."""
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
