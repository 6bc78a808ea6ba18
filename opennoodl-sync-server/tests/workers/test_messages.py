"""Messages between the server and a worker."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.workers.messages import CHUNK, encode, read


@given(st.lists(st.binary(max_size=50)))
def test_a_message_is_read_as_it_was_written(parts: list[bytes]) -> None:
    """Any parts, and any number of them."""
    sizes: list[int] = []
    assert read(io.BytesIO(b"".join(encode([[part] for part in parts]))), sizes.append) == parts
    assert sizes == [sum(map(len, parts))]


@pytest.mark.parametrize("parts", [[b"x" * (3 * CHUNK + 1)], [b"x" * 1000] * 300, [b"x" * CHUNK, b"", b"y" * CHUNK]])
def test_a_large_message_comes_in_chunks(parts: list[bytes]) -> None:
    """No chunk is much larger than the others, so that the server can do something else in between."""
    chunks = list(encode([[part] for part in parts]))
    assert max(map(len, chunks)) <= CHUNK + 1100
    assert len(chunks) < 12
    assert read(io.BytesIO(b"".join(chunks)), lambda _: None) == parts


@given(st.lists(st.lists(st.binary(max_size=50))))
def test_pieces_of_a_part_are_one(parts: list[list[bytes]]) -> None:
    """Any number of them, also none."""
    assert read(io.BytesIO(b"".join(encode(parts))), lambda _: None) == [b"".join(part) for part in parts]


def test_a_stream_that_ends_is_noticed() -> None:
    """Wherever it does."""
    message = b"".join(encode([[b"one"], [b"t", b"wo"]]))
    for length in range(len(message)):
        with pytest.raises(EOFError):
            read(io.BytesIO(message[:length]), lambda _: None)
