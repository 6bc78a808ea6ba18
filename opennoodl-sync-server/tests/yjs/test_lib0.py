"""lib0's numbers and byte strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs.lib0 import (
    MAX_SAFE_INTEGER,
    MalformedError,
    Steps,
    finish,
    read_bytes,
    read_varuint,
    write_bytes,
    write_varuint,
)
from pycrdt import write_var_uint

numbers = st.integers(0, MAX_SAFE_INTEGER) | st.integers(0, 70_000)


@given(numbers, st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_are_as_pycrdt_writes_them(number: int, before: bytes, behind: bytes) -> None:
    """Each is written as pycrdt writes it, and read wherever it stands."""
    written = write_varuint(number)
    assert written == write_var_uint(number)
    assert read_varuint(before + written + behind, len(before)) == (number, len(before) + len(written))


@given(numbers)
def test_a_number_that_ends_early(number: int) -> None:
    """Data that ends within a number is malformed."""
    written = write_varuint(number)
    for length in range(len(written)):
        with pytest.raises(MalformedError, match="ends within a number"):
            read_varuint(written[:length], 0)


@pytest.mark.parametrize("written", [write_varuint(MAX_SAFE_INTEGER + 1), b"\xff" * 9 + b"\x01", b"\x80" * 1000])
def test_a_number_that_is_too_large(written: bytes) -> None:
    """Numbers that JavaScript cannot hold are malformed, and none is read on for ever."""
    with pytest.raises(MalformedError, match="too large"):
        read_varuint(written, 0)


def test_a_number_with_zeros_at_its_end() -> None:
    """lib0 reads numbers that take more bytes than they need."""
    assert read_varuint(b"\x81\x80\x00", 0) == (1, 3)
    assert read_varuint(b"\x81\x00", 0) == (1, 2)


@given(st.binary(max_size=300), st.binary(max_size=3))
def test_byte_strings_stand_behind_their_length(content: bytes, behind: bytes) -> None:
    """Each stands behind its length; one that ends early is malformed."""
    written = write_bytes(content)
    assert read_bytes(written + behind, 0) == (content, len(written))
    for length in {0, len(written) // 2, len(written) - 1}:
        with pytest.raises(MalformedError):
            read_bytes(written[:length], 0)


def test_finish_returns_what_the_work_does() -> None:
    """All steps are done."""
    done = []

    def work() -> Steps[str]:
        for number in range(3):
            done.append(number)
            yield
        return "result"

    assert finish(work()) == "result"
    assert done == [0, 1, 2]
