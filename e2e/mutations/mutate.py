"""Random changes of messages and of the frames that carry them."""

from __future__ import annotations

import random

from attacks.raw_connection import CLOSE, MASK, PING, PONG, TEXT, frame, masked
from pycrdt import write_var_uint

HUGE = [write_var_uint(2**bits + more) for bits in (7, 14, 28, 31, 32, 53, 63, 64) for more in (-1, 0)] + [b"\xff" * 11]
"""Numbers at the limits of decoders, and one that never ends."""
TOKENS = [
    *(b'"', b"\\", b"\\u", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"-", b"0"),
    *(b"1e999", b"NaN", b"1" * 400, b'"type":', b'"__proto__":{},', b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\n", b"\x00"),
    *(b"[" * 2000, b'{"a":' * 600),
]
"""Tokens of JSON, and some that are not."""


def change(dice: random.Random, data: bytes, others: list[bytes], *, text: bool) -> bytes:
    """Return data after some changes; inserted pieces are of the same kind."""
    for _ in range(dice.choice([0, 1, 1, 1, 1, 2, 2, 3])):
        at = dice.randint(0, len(data))
        end = min(len(data), at + dice.randint(1, 8))
        match dice.randrange(8):
            case 0:
                data = data[:at] + bytes(byte ^ 1 << dice.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
            case 1:
                data = data[:at] + (dice.choice(TOKENS) if text else bytes([dice.randrange(12)])) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + (dice.choice(TOKENS) if text else dice.randbytes(dice.randint(1, 4))) + data[at:]
            case 5:
                other = dice.choice(others)
                data = data[:at] + other[dice.randint(0, len(other)) :]
            case 6:
                data = data[:at] + (dice.choice(TOKENS) if text else dice.choice(HUGE)) + data[at + 1 :]
            case _:
                data = data[:end] + data[at:end] * dice.randint(1, 3) + data[end:]
    return data


def broken_frame(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """Return a message in changed frames, most of which end the connection."""
    whole = frame(payload, opcode)
    cut = dice.randint(0, len(payload))
    begin, end = frame(payload[:cut], first=opcode), frame(payload[cut:], first=0x80)
    match dice.randrange(9):
        case 0:
            return change(dice, whole[:14], [whole], text=False) + whole[14:]
        case 1:  # wrong length
            return whole[:1] + bytes([dice.randrange(256)]) + whole[2:]
        case 2:  # wrong mask, so other bytes
            return whole[:2] + dice.randbytes(4) + whole[6:]
        case 3:  # no mask
            return bytes((0x80 | opcode, len(payload) & 0x7F)) + payload
        case 4:  # fragments with another frame in between
            return begin + dice.choice([frame(b"a", PING), frame(b"", PONG), begin, whole, end + end]) + end
        case 5:
            return whole[: dice.randint(0, len(whole))] + dice.randbytes(10)
        case 6:
            return frame(dice.randbytes(dice.randrange(5)), CLOSE) + whole
        case 7:
            return frame(payload, first=dice.randrange(256))
        case _:
            return bytes((0x80 | TEXT, 0xFF)) + dice.randbytes(8) + MASK + masked(payload)
