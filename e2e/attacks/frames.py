"""Attacks on the WebSocket protocol: too large, fragmented, and invalid frames."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable

from .attack import BOTH, JSON, attack
from .raw_connection import BINARY, CLOSE, IGNORED, MASK, PING, PONG, TEXT, Target, frame, header, masked

CONT = 0x0
LARGER = {"signaling": 65_537, "notification": 65_537, "sync": 16_777_217}
"""Bytes of a message one byte above the limit."""


async def _verdicts(target: Target, attempts: Iterable[bytes]) -> Collection[str]:
    """Send each attempt on its own WebSocket; return the verdicts."""
    verdicts = set()
    for data in attempts:
        async with target.websocket() as raw:
            raw.write(data)
            verdicts.add(await raw.verdict())
    return verdicts


@attack("1009", setups=BOTH)
async def oversized_message(target: Target) -> Collection[str]:
    """A message one byte too large, in one frame and in fragments; frames with the largest length in their header."""
    size = LARGER[target.kind]
    piece = 60_000
    parts = frame(b"a" * piece, TEXT, first=TEXT) + frame(b"a" * piece, first=CONT) * (size // piece)
    claims = [header(0x80 | TEXT, claimed) + MASK for claimed in (size, 2**31, 2**53, 2**64 - 1)]
    return await _verdicts(target, [frame(b"a" * size), parts, *claims])


@attack("1002")
async def invalid_fragments(target: Target) -> Collection[str]:
    """A message within an unfinished one; a continuation without a start; fragmented or too long control frames."""
    return await _verdicts(
        target,
        [
            frame(b"a", first=TEXT) + frame(b"b", TEXT),
            frame(b"a", first=CONT),
            frame(b"a", first=0x80 | CONT),
            frame(b"", first=PING),
            frame(b"a" * 126, PING),
            frame(b"a" * 126, CLOSE),
        ],
    )


@attack(sync=["1003"], signaling=["invalid-json"], notification=["invalid-json"])
async def control_frames_between_fragments(target: Target) -> Collection[str]:
    """A fragmented message with pings and pongs between the fragments: the server reassembles it."""
    pieces = frame(b"{", first=TEXT) + (frame(b"a", PING) + frame(b"b", first=CONT) + frame(b"c", PONG)) * 100
    return await _verdicts(target, [pieces + frame(b"", first=0x80 | CONT)])


@attack("1002")
async def reserved_bits_and_opcodes(target: Target) -> Collection[str]:
    """Frames with each reserved bit and each reserved opcode."""
    bits = [frame(b"a", first=0x81 | bit) for bit in (0x40, 0x20, 0x10)]
    return await _verdicts(target, bits + [frame(b"a", opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)])


@attack("1002")
async def unmasked_frames(target: Target) -> Collection[str]:
    """Unmasked frames."""
    return await _verdicts(target, [header(0x81, 1, mask=0) + b"a", header(0x89, 0, mask=0)])


@attack("1002", "1007", "1000", setups=BOTH)
async def invalid_close_frames(target: Target) -> Collection[str]:
    """Close frames with forbidden codes, half a code, a reason that is not UTF-8, and frames after a close frame."""
    codes = (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535)
    return await _verdicts(
        target,
        [
            *(frame(code.to_bytes(2, "big"), CLOSE) for code in codes),
            frame(b"\x03", CLOSE),
            frame(b"\x03\xe8\xff", CLOSE),
            frame(b"\x03\xe8", CLOSE) + target.message * 1000,
        ],
    )


@attack("1003")
async def wrong_frame_type(target: Target) -> Collection[str]:
    """Binary frames to the JSON servers, text frames to the binary server."""
    return await _verdicts(target, [frame(b"{}", TEXT if target.kind == "sync" else BINARY)])


@attack("1007", servers=JSON)
async def invalid_utf_8(target: Target) -> Collection[str]:
    """Text frames that are not UTF-8: stray bytes, surrogates, code points beyond Unicode."""
    broken = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"]
    return await _verdicts(target, [frame(b'{"type":"' + text + b'"}') for text in broken])


@attack("1002")
async def compression(target: Target) -> Collection[str]:
    """An offer of compression, which the server declines, then a compressed bomb."""
    packed = zlib.compressobj(9, wbits=-15)
    bomb = packed.compress(b"a" * 10_000_000) + packed.flush()
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with target.websocket(b"", offer) as raw:
        await raw.send(frame(bomb, first=0xC1))
        return {await raw.verdict()}


@attack("400")
async def frames_before_the_handshake(target: Target) -> Collection[str]:
    """Frames before the response to the handshake."""
    async with target.tcp() as raw:
        await raw.send(target.handshake + target.message * 100)
        return {await raw.status()}


@attack(IGNORED, setups=BOTH)
async def frames_in_single_byte_packets(target: Target) -> Collection[str]:
    """Frames sent byte by byte, each byte in a packet of its own."""
    async with target.websocket() as raw:
        for byte in frame(b"", PING) + header(0x80 | PONG, 20) + MASK + masked(b"a" * 20):
            await raw.send(bytes((byte,)))
        return {await raw.verdict()}
