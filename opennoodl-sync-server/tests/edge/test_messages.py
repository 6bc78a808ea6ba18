"""JSON messages are typed on the way in, and a bad one is explained."""

from __future__ import annotations

import gc
import sys
from typing import Annotated, Any

import pytest
from msgspec import Meta

from .harness import errors, messages

Message: Any = messages.Message


class Say(Message, tag="say", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Is said back."""

    text: Annotated[str, Meta(min_length=1, max_length=10)]


class Break(Message, tag="break", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Cannot be done."""


decode = messages.Decoder(Say | Break)


def deep(levels: int) -> str:
    """Return a JSON list that holds a list that holds a list ..."""
    return "[" * levels + "]" * levels


def test_message_is_decoded_by_its_type() -> None:
    """A message is an object of the type that its `type` names; unknown fields are ignored."""
    assert decode(b' {"more": [1, {"type": "x"}], "text": "hi", "type": "say"}\n') == Say("hi")


def test_every_type_has_its_name() -> None:
    """Every type has the name by which it is counted."""
    assert decode.names == {Say: "say", Break: "break"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b" ",
        b"hello",
        b"[]",
        b"1",
        b'"say"',
        b"null",
        b"{",
        b'{"type": "say", "text": "hi"',
        b'{"type": "say", "text": "hi"}}',
        b'{"type": "say", "text": "hi"} {}',
        b'{"type": "say", "text": "hi", "more": [1,]}',
        b'{"type": "say", "text": "hi", "more": 01}',
        b'{"type": "say", "text": "hi", "more": "\\q"}',
        b'{"type": "say", "text": "hi", "more": NaN}',
        b"{'type': 'say'}",
        b'\xef\xbb\xbf{"type": "say", "text": "hi"}',
        deep(30_000).encode(),
        f'{{"type": "say", "text": "hi", "more": {deep(30_000)}}}'.encode(),
    ],
)
def test_malformed_json_is_invalid_json(message: bytes) -> None:
    """A message that is not one whole JSON object is invalid-json, also if only an ignored field is malformed."""
    with pytest.raises(errors.BadMessage) as info:
        decode(message)
    assert info.value.code == "invalid-json"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{}", "unknown-type"),
        ('{"text": "hi"}', "unknown-type"),
        ('{"type": null}', "unknown-type"),
        ('{"type": 1}', "unknown-type"),
        ('{"type": ["say"]}', "unknown-type"),
        ('{"type": ""}', "unknown-type"),
        ('{"type": "SAY", "text": "hi"}', "unknown-type"),
        ('{"type": "say"}', "missing-field"),
        ('{"type": "say", "text": null}', "invalid-field"),
        ('{"type": "say", "text": 1}', "invalid-field"),
        ('{"type": "say", "text": ""}', "invalid-field"),
        ('{"type": "say", "text": "elevenchars"}', "invalid-field"),
    ],
)
def test_invalid_message_has_a_code_and_a_sentence(message: str, code: str) -> None:
    """An error about an invalid message has a code and a sentence."""
    with pytest.raises(errors.BadMessage) as info:
        decode(message.encode())
    assert info.value.code == code
    assert info.value.error.endswith(".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"\ud83d", rb"\ufffd"),
        (rb"a\uDE00b", rb"a\ufffdb"),
        (rb"\ud83d\ude00", rb"\ud83d\ude00"),
        (rb"\ud83d\ud83d\ude00\ude00", rb"\ufffd\ud83d\ude00\ufffd"),
        (rb"\ude00\ud83d", rb"\ufffd\ufffd"),
        (rb"\\ud83d", rb"\\ud83d"),
        (rb"\\\ud83d", rb"\\\ufffd"),
        (rb"\\ud83d\ude00", rb"\\ud83d\ufffd"),
        (rb"\ud83d\\ude00", rb"\ufffd\\ude00"),
        (rb"\"\n\u00fc\ud83g", rb"\"\n\u00fc\ud83g"),
        (b"\x01", b"\x01"),
    ],
)
def test_lone_surrogates_are_replaced(text: bytes, expected: bytes) -> None:
    """Escaped halves of surrogate pairs are replaced, and nothing else is touched."""
    assert messages.replace_lone_surrogates(text) == expected


@pytest.mark.parametrize("text", [rb"\ud83d", rb"\\", rb"\n", rb"\ude00x"])
def test_lone_surrogates_at_once(text: bytes) -> None:
    """However many escapes a message has, no function is called for each of them."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    gc.disable()  # a collection calls what former tests have left to it
    sys.setprofile(count)
    try:
        messages.replace_lone_surrogates(text * 1000)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert calls < 100
