"""Whole messages need no parser, and nothing but the work tells whether one was needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from ..harness import BINARY, CLOSE, PING, PONG, TEXT, Echo, errors, flow_control, frames, masked, opened, protocol

CONT, FIN = 0, 0x80
MAX_SIZE = 300
GOODBYE = b"\x03\xe8"
END = b"This is the end. " * 10
"""The message that ends a connection; longer than any that is drawn."""


class Listener(Echo):
    """Keeps messages with their kind; `END` ends a connection."""

    def receive(self, sender: Any, message: bytes, text: bool) -> None:
        """Keep the message."""
        self.got.append((message, text))
        if message == END:
            sender.disconnect(1000, "The end.")


async def hear(chunks: Iterable[bytes]) -> Any:
    """Return a connection that has got `chunks`, one by one, from its client after the handshake."""
    app = Listener(max_message_size=MAX_SIZE)
    heard = opened(app)
    heard.attach(await app.open(heard))
    for chunk in chunks:
        heard.data_received(chunk)
    return heard


def frame(head: int, payload: bytes, mask: bytes = b"mask", length: int = 0) -> bytes:
    """Return a client's frame.

    Args:
        head: its first byte.
        payload: to be masked.
        mask: four bytes.
        length: how many bytes the length takes at least: 0, 2 or 8; beyond what is needed, it is not minimal.
    """
    size = len(payload)
    if size < 126 and not length:
        coded = bytes((0x80 | size,))
    elif length < 8:
        coded = b"\xfe" + size.to_bytes(2, "big")
    else:
        coded = b"\xff" + size.to_bytes(8, "big")
    return bytes((head,)) + coded + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """Return `stream` in packets that begin at `places`."""
    return [stream[start:end] for start, end in pairwise(sorted({0, *places, len(stream)}))]


# One frame


@pytest.mark.parametrize("length", [0, 2, 8])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_whole_message_is_parsed(opcode: int, length: int) -> None:
    """A whole message is read, unmasked, with its kind and its end, however its length is written."""
    data = frame(FIN | opcode, b"hello", length=length)
    assert frames.message_at(b"before" + data + b"after", 6, None) == (b"hello", opcode == TEXT, 6 + len(data))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_message_of_any_size_is_parsed(size: int) -> None:
    """A message of any size is read."""
    data = masked(BINARY, bytes(size))
    assert frames.message_at(data, 0, size) == (bytes(size), False, len(data))


@pytest.mark.parametrize("size", [0, 1, 126, 65_536])
def test_partial_frame_is_not_parsed(size: int) -> None:
    """A frame that has not come whole is none."""
    data = masked(TEXT, bytes(size))
    for end in (*range(min(20, len(data))), len(data) - 1):
        assert frames.message_at(data[:end], 0, None) is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_start_of_a_whole_message_is_recognized(size: int) -> None:
    """The start of a whole message is told apart from frames for the library, at any length."""
    data = masked(BINARY, bytes(size))
    for end in (*range(1, min(20, len(data))), len(data) - 1):
        assert frames.begins(b"before" + data[:end], 6, None)
        assert frames.begins(data[:end], 0, size)


@pytest.mark.parametrize(("size", "most"), [(11, 10), (70_000, 69_999)])
def test_frame_over_the_limit_is_left_to_the_library(size: int, most: int) -> None:
    """Once its length is known, a frame that is too big is for the library."""
    data = masked(TEXT, bytes(size))
    assert frames.begins(data[:1], 0, most)
    assert not frames.begins(data[:10], 0, most)
    assert frames.large_frame_at(data, 0, most) is None


@pytest.mark.parametrize("most", [None, 70_000])
def test_large_frame_is_recognized_behind_its_mask(most: int | None) -> None:
    """Until its mask has come, the beginning of a large frame is kept; then its parts are taken as they come."""
    payload = bytes(range(250)) * 280
    data = b"before" + frame(FIN | BINARY, payload, length=8)
    for end in range(7, 6 + 14):
        assert frames.begins(data[:end], 6, most)
        assert frames.large_frame_at(data[:end], 6, most) is None
    assert not frames.begins(data[: 6 + 14], 6, most)
    large = frames.large_frame_at(data[: 6 + 14], 6, most)
    assert large is not None
    at = 6 + 14
    for size in (0, 1, 2, 3, 50_001, 7):
        at = large.add(data[at : at + size], 0) + at
        assert not large.is_whole
    assert large.add(data + b"after", at) == len(data)
    assert large.is_whole
    assert large.message() == payload
    assert not large.text


OTHER = {
    "fragment": frame(TEXT, b"x"),
    "continuation": frame(FIN | CONT, b"x"),
    "ping": frame(FIN | PING, b"x"),
    "pong": frame(FIN | PONG, b"x"),
    "close": frame(FIN | CLOSE, GOODBYE),
    "unknown opcode": frame(FIN | 3, b"x"),
    "unmasked": b"\x81\x08unmasked",
    "too big": frame(FIN | TEXT, bytes(MAX_SIZE + 1)),
    "reserved bit 1": frame(FIN | 0x40 | TEXT, b"x"),
    "reserved bit 2": frame(FIN | 0x20 | TEXT, b"x"),
    "reserved bit 3": frame(FIN | 0x10 | TEXT, b"x"),
}
"""Frames for the library."""


@pytest.mark.parametrize("name", OTHER)
def test_other_frames_are_left_to_the_library(name: str) -> None:
    """Whatever is no whole message is left to the library."""
    assert frames.message_at(OTHER[name], 0, MAX_SIZE) is None


@pytest.mark.parametrize("name", OTHER)
def test_other_does_not_begin(name: str) -> None:
    """Other frames are not waited for."""
    assert not frames.begins(OTHER[name], 0, MAX_SIZE)


# Many frames


@pytest.mark.parametrize(
    "before",
    [
        [],
        [masked(TEXT, b"whole")],
        [masked(PING, b"?")],
        [masked(TEXT, b"in ", fin=False), masked(CONT, b"parts")],
        [masked(TEXT, b"halves")[:8], masked(TEXT, b"halves")[8:]],
        [masked(TEXT, b"one") + masked(PING) + masked(TEXT, b"another")],
    ],
)
async def test_library_sees_no_whole_message(before: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The library sees no message that comes as one frame, nor the parts of a large one."""
    monkeypatch.setattr(frames, "LARGEST_PART", 100)
    heard = await hear(before)
    heard.app.got.clear()
    heard.protocol.receive_data = Mock()
    large = frame(FIN | BINARY, bytes(MAX_SIZE), length=8)
    for data in (masked(TEXT, b"one") + masked(BINARY, b"two") + large[:7], large[7:20], large[20:]):
        heard.data_received(data)
    assert heard.app.got == [(b"one", True), (b"two", False), (bytes(MAX_SIZE), False)]
    heard.protocol.receive_data.assert_not_called()


@pytest.mark.parametrize("places", [[], [-1], [-5], [-6], [-6, -5], [-6, -4], [-6, -1]])
async def test_frame_in_a_payload(places: list[int]) -> None:
    """A payload that begins a packet is not taken for a frame, though it looks like one."""
    inner = masked(TEXT, b"inner")
    stream = masked(TEXT, b"first") + masked(BINARY, inner)
    payload = len(stream) - len(inner)
    heard = await hear(cut(stream, [payload, *(payload + place for place in places)]))
    assert heard.app.got == [(b"first", True), (inner, False)]


async def test_whole_message_among_fragments_closes_with_1002() -> None:
    """A whole message between the parts of another one closes with 1002."""
    heard = await hear([masked(TEXT, b"first"), masked(TEXT, b"part", fin=False), masked(TEXT, b"whole")])
    assert heard.app.got == [(b"first", True)]
    assert heard.close_code == 1002


async def test_messages_after_the_end_are_not_handled() -> None:
    """Messages behind the one that ended the connection are not handled, in its packet or later."""
    end, late = masked(TEXT, END), masked(TEXT, b"late")
    heard = await hear([masked(TEXT, b"first"), end + late, late])
    assert heard.app.got == [(b"first", True), (END, True)]
    assert heard.close_code == 1000


async def test_message_is_a_sign_of_life() -> None:
    """A message is a sign of life."""
    heard = await hear([masked(TEXT, b"first")])
    heard.heartbeat()
    heard.data_received(masked(TEXT, b"second"))
    heard.heartbeat()
    heard.transport.abort.assert_not_called()


# The reader, without a connection


class Messages(list[Any]):
    """Takes messages; `pauses` is what is called after each."""

    def __init__(self, pauses: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._pauses = pauses

    def __call__(self, message: bytes, text: bool) -> None:
        """Note the message."""
        self.append((message, text))
        self._pauses()


def reader(reads: Any = None) -> Any:
    """Return a reader of an open WebSocket from which a whole message was read before."""
    parser = protocol.EdgeProtocol(max_size=MAX_SIZE)
    parser.state = OPEN
    parser.between_messages = True
    return frames.Reader(parser, flow_control.ReadFlow() if reads is None else reads)


def test_reader_takes_whole_frames() -> None:
    """Whole frames are handed on, and nothing is left."""
    messages = Messages()
    assert reader().read(masked(TEXT, b"one") + masked(BINARY, b"two"), messages) == b""
    assert messages == [(b"one", True), (b"two", False)]


def test_reader_buffers_a_part() -> None:
    """A part of a frame is kept until the rest has come."""
    whole, messages, reads = masked(TEXT, b"halves"), Messages(), reader()
    assert reads.read(whole[:4], messages) == b""
    assert messages == []
    assert reads.read(whole[4:], messages) == b""
    assert messages == [(b"halves", True)]


def test_reader_leaves_the_rest() -> None:
    """From the first frame that is no whole message on, all is for the parser."""
    messages, rest = Messages(), masked(PING, b"?") + masked(TEXT, b"two")
    assert reader().read(masked(TEXT, b"one") + rest, messages) == rest
    assert messages == [(b"one", True)]


def test_reader_stops_at_a_pause() -> None:
    """Nothing is handed on after a message that made the flow hold messages; it can be held and taken back."""
    flows = flow_control.ReadFlow()
    messages, reads = Messages(lambda: flows.pause(flow_control.EdgePause.WORK)), reader(flows)
    rest = reads.read(masked(TEXT, b"one") + masked(TEXT, b"two"), messages)
    assert messages == [(b"one", True)]
    reads.hold(rest)
    reads.hold(masked(TEXT, b"three"))
    assert reads.held() == masked(TEXT, b"two") + masked(TEXT, b"three")
    assert reads.held() == b""


def test_reader_holds_the_end_of_a_large_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the flow holds messages, a large one does not end."""
    monkeypatch.setattr(frames, "LARGEST_PART", 100)
    flows = flow_control.ReadFlow()
    messages, reads = Messages(), reader(flows)
    data = frame(FIN | TEXT, bytes(200), length=8)
    assert reads.read(data[:150], messages) == b""
    assert reads.size == 150 - 14
    flows.pause(flow_control.EdgePause.WORK)
    assert reads.read(data[150:], messages) == data[150:]
    flows.resume(flow_control.EdgePause.WORK)
    assert messages == []
    assert reads.read(data[150:] + masked(TEXT, b"next"), messages) == b""
    assert messages == [(bytes(200), True), (b"next", True)]
    assert reads.size == 0


def test_reader_joins_the_fragments_of_a_message() -> None:
    """The fragments of a message are joined; its kind is that of the first."""
    reads = reader()
    assert reads.join(Frame(Opcode.TEXT, b"he", fin=False)) is None
    assert reads.join(Frame(Opcode.CONT, b"ll", fin=False)) is None
    assert reads.join(Frame(Opcode.CONT, b"o", fin=True)) == (b"hello", True)
    assert reads.join(Frame(Opcode.BINARY, b"alone", fin=True)) == (b"alone", False)


def test_reader_bounds_the_number_of_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with too many fragments closes with 1009."""
    monkeypatch.setattr(frames, "MAX_FRAGMENTS", 3)
    reads = reader()
    reads.join(Frame(Opcode.TEXT, b"", fin=False))
    for _ in range(2):
        assert reads.join(Frame(Opcode.CONT, b"", fin=False)) is None
    with pytest.raises(errors.CloseConnection, check=lambda close: close.code == 1009):
        reads.join(Frame(Opcode.CONT, b"", fin=False))


# As the library alone

MASKS = st.binary(min_size=4, max_size=4)
LENGTHS = st.sampled_from([0, 2, 8])
TEXTS = st.text(max_size=20).map(str.encode)
BYTES = st.binary(max_size=20) | st.sampled_from([125, 126, MAX_SIZE]).map(bytes)
CONTROLS = st.builds(masked, st.sampled_from([PING, PONG]), st.binary(max_size=125))
WHOLES = st.builds(frame, st.just(FIN | TEXT), TEXTS, MASKS, LENGTHS) | st.builds(
    frame, st.just(FIN | BINARY), BYTES, MASKS, LENGTHS
)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Draw one message in several frames, a control frame perhaps between them."""
    parts = draw(st.lists(st.binary(max_size=20), min_size=2, max_size=4))
    *most, last = (masked(CONT if at else BINARY, part, fin=at == len(parts) - 1) for at, part in enumerate(parts))
    return b"".join(most) + draw(st.just(b"") | CONTROLS) + last


ENDS = st.sampled_from(
    [
        *OTHER.values(),
        frame(FIN | CLOSE, b""),
        frame(FIN | CLOSE, b"\x03"),
        frame(FIN | CLOSE, b"\x00\x00"),
        frame(FIN | CLOSE, GOODBYE + b"\xff"),
        frame(PING, b"in parts"),
        frame(FIN | PING, bytes(126)),
        frame(FIN | TEXT, b"\xff"),
        frame(FIN | TEXT, END),
        frame(BINARY, bytes(200)) + frame(FIN | CONT, bytes(200)),
    ]
)
"""What ends most connections; a fragment does when something else than its next part follows."""


@st.composite
def packets(draw: st.DrawFn) -> list[bytes]:
    """Draw what a client sends, cut anywhere: between frames, and within them."""
    # At most one frame ends the connection, and nothing that would end it follows. The library reads the whole of
    # a packet before its messages are handled; so of two reasons, the packets would decide which comes first.
    whole = st.lists(WHOLES | CONTROLS | fragmented(), max_size=6)
    sent = [*draw(whole), draw(st.just(masked(TEXT)) | ENDS), *draw(st.lists(WHOLES, max_size=3))]
    bounds = list(accumulate(map(len, sent)))
    cuts = draw(st.sets(st.sampled_from(bounds) | st.integers(1, bounds[-1])))
    return cut(b"".join(sent), cuts)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(packets(), st.sampled_from([10, frames.LARGEST_PART]))
def test_reader_behaves_as_the_library_alone(sent: list[bytes], largest_part: int) -> None:
    """Messages and close code are those of the library alone, which gets the same byte by byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "LARGEST_PART", largest_part)
        heard = asyncio.run(hear(sent))
        by_bytes = asyncio.run(hear(bytes((byte,)) for byte in b"".join(sent)))
        patch.setattr(frames.Reader, "read", lambda _self, data, _receive: data)
        alone = asyncio.run(hear(bytes((byte,)) for byte in b"".join(sent)))
    assert heard.app.got == by_bytes.app.got == alone.app.got
    assert heard.close_code == by_bytes.close_code == alone.close_code


def test_utf8_check_refuses_surrogates() -> None:
    """Text is UTF-8, without halves of surrogate pairs."""
    assert frames.is_utf8("\u00e9\U0001f600".encode())
    assert not frames.is_utf8(b"\xff")
    assert not frames.is_utf8(b"\xed\xa0\x80")
