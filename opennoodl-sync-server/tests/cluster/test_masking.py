"""Masked frames are those of the websockets library."""

from __future__ import annotations

import pytest
from opennoodl_sync.cluster.masking import KEY, KEYS, Masking
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_read_by_the_library(size: int) -> None:
    """The library's parser takes a frame of any size, with what it carries."""
    payload = bytes(index % 251 for index in range(size))
    server = ServerProtocol(max_size=None)
    server.state = State.OPEN
    server.parser = server.parse()
    server.receive_data(Masking().frame(Opcode.BINARY, payload))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data) == (Opcode.BINARY, payload)


def test_each_frame_has_a_key_of_its_own() -> None:
    """Keys are used once, also those that are drawn later."""
    masking = Masking()
    keys = {masking.frame(Opcode.BINARY, bytes(KEY))[2 : 2 + KEY] for _ in range(3 * KEYS)}
    assert len(keys) == 3 * KEYS
