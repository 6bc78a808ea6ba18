"""The wire: what y-protocols and lib0 write is read, what they never write is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.y_protocol import Kind, acknowledgement, awareness_message, parse, step_1, step_2, update_message
from opennoodl_sync.yjs.lib0 import (
    MAX_SAFE_INTEGER,
    MalformedError,
    read_bytes,
    read_varuint,
    write_bytes,
    write_varuint,
)

# Written by y-protocols 1.0 and lib0, for a document of client 1 with the text "ab".
STATE_VECTOR = bytes.fromhex("010102")
UPDATE = bytes.fromhex("010101000401017402616200")
AWARENESS = bytes.fromhex("0101010f7b2275736572223a225a6fc3ab227d")
STEP_1_MESSAGE = bytes.fromhex("000003010102")
STEP_2_MESSAGE = bytes.fromhex("00010c010101000401017402616200")
UPDATE_MESSAGE = bytes.fromhex("00020c010101000401017402616200")
AWARENESS_MESSAGE = bytes.fromhex("0113") + AWARENESS
QUERY_MESSAGE = b"\x03"

NUMBERS = {
    0: "00",
    127: "7f",
    128: "8001",
    300: "ac02",
    2**31: "8080808008",
    2**53 - 1: "ffffffffffffff0f",
}
"""Numbers as lib0's `writeVarUint` writes them."""


@pytest.mark.parametrize(
    ("message", "kind", "content"),
    [
        pytest.param(STEP_1_MESSAGE, Kind.STEP_1, STATE_VECTOR, id="step 1"),
        pytest.param(bytes.fromhex("00000100"), Kind.STEP_1, b"\x00", id="step 1 of an empty document"),
        pytest.param(STEP_2_MESSAGE, Kind.STEP_2, UPDATE, id="step 2"),
        pytest.param(UPDATE_MESSAGE, Kind.UPDATE, UPDATE, id="update"),
        pytest.param(AWARENESS_MESSAGE, Kind.AWARENESS, AWARENESS, id="awareness"),
        pytest.param(QUERY_MESSAGE, Kind.QUERY_AWARENESS, b"", id="query awareness"),
    ],
)
def test_reads_what_y_protocols_writes(message: bytes, kind: Kind, content: bytes) -> None:
    """Every message that a y-websocket client sends is understood."""
    assert parse(message) == (kind, content)


def test_writes_what_y_protocols_writes() -> None:
    """Every message to clients is, byte for byte, the one that y-protocols writes."""
    assert step_1(STATE_VECTOR) == STEP_1_MESSAGE
    assert step_2(UPDATE) == STEP_2_MESSAGE
    assert update_message(UPDATE) == UPDATE_MESSAGE
    assert awareness_message(AWARENESS) == AWARENESS_MESSAGE


@pytest.mark.parametrize(("count", "message"), [(1, "6401"), (127, "647f"), (300, "64ac02")])
def test_an_acknowledgement_is_its_number_and_the_count(count: int, message: str) -> None:
    """This server's own message is its number and the count, as lib0 writes numbers."""
    assert acknowledgement(count).hex() == message


@pytest.mark.parametrize("message", [STEP_1_MESSAGE, STEP_2_MESSAGE, UPDATE_MESSAGE, AWARENESS_MESSAGE, QUERY_MESSAGE])
def test_a_message_that_ends_early_is_refused(message: bytes) -> None:
    """No part of a message passes for a message, wherever it was cut."""
    for length in range(len(message)):
        with pytest.raises(MalformedError):
            parse(message[:length])


@pytest.mark.parametrize("message", [STEP_1_MESSAGE, STEP_2_MESSAGE, UPDATE_MESSAGE, AWARENESS_MESSAGE, QUERY_MESSAGE])
def test_bytes_behind_a_message_are_ignored(message: bytes) -> None:
    """Bytes behind the content are skipped, as Yjs does, so that a later version may add some."""
    assert parse(message + b"more") == parse(message)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(bytes.fromhex("000300"), id="sync message 3"),
        pytest.param(bytes.fromhex("00ac0200"), id="sync message 300"),
        pytest.param(bytes.fromhex("02000466756c6c"), id="auth, which only servers send"),
        pytest.param(bytes.fromhex("0400"), id="message 4"),
        pytest.param(bytes.fromhex("6401"), id="acknowledgement, which only servers send"),
        pytest.param(bytes.fromhex("8001"), id="message 128"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"type":"join"}', id="JSON"),
    ],
)
def test_an_unknown_message_is_refused(message: bytes) -> None:
    """A message that y-protocols does not define is malformed."""
    with pytest.raises(MalformedError):
        parse(message)


@pytest.mark.parametrize("prefix", [b"", b"\x00", b"\x00\x01", b"\x01"])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param("8080808080808010", id="2**53"),
        pytest.param("ffffffffffffffffff01", id="2**64 - 1"),
        pytest.param("80" * 4096 + "00", id="zero in 4097 bytes"),
    ],
)
def test_a_number_that_lib0_would_not_read_is_refused(prefix: bytes, number: str) -> None:
    """Numbers above 2**53 - 1 or without end are refused, whatever they stand for."""
    with pytest.raises(MalformedError):
        parse(prefix + bytes.fromhex(number))
    with pytest.raises(MalformedError):
        read_varuint(bytes.fromhex(number), 0)


@pytest.mark.parametrize(("number", "encoded"), NUMBERS.items())
def test_numbers_are_encoded_as_lib0_does(number: int, encoded: str) -> None:
    """Seven bits a byte, the lowest first."""
    assert write_varuint(number).hex() == encoded
    assert read_varuint(bytes.fromhex("99" + encoded + "99"), 1) == (number, 1 + len(encoded) // 2)


def test_a_length_beyond_the_end_is_refused() -> None:
    """A length that promises more than there is does not read what is not there."""
    with pytest.raises(MalformedError):
        read_bytes(b"\x05four", 0)


@given(st.integers(0, MAX_SAFE_INTEGER), st.binary(max_size=4))
def test_numbers_come_back(number: int, before: bytes) -> None:
    """A written number is read back, and reading stops behind it."""
    encoded = write_varuint(number)
    assert read_varuint(before + encoded + b"\xff", len(before)) == (number, len(before + encoded))


@given(st.binary(max_size=400), st.binary(max_size=4))
def test_bytes_come_back(content: bytes, after: bytes) -> None:
    """Length-prefixed content of any length is read as it was written."""
    encoded = write_bytes(content)
    assert read_bytes(encoded + after, 0) == (content, len(encoded))


@given(st.binary(max_size=400))
def test_messages_come_back(content: bytes) -> None:
    """A message written by one side is read by the other."""
    assert parse(step_1(content)) == (Kind.STEP_1, content)
    assert parse(step_2(content)) == (Kind.STEP_2, content)
    assert parse(update_message(content)) == (Kind.UPDATE, content)
    assert parse(awareness_message(content)) == (Kind.AWARENESS, content)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    """Whatever arrives, it is a message or a MalformedError, and never anything else."""
    try:
        kind, content = parse(message)
    except MalformedError:
        return
    assert kind in Kind
    assert content in message
