"""Contents of structs: skips them and checks that a Yjs client can decode them. No values are built.

Sources: lib0 ``decoding.js`` (``readAny``, ``readVarString``); yjs 13 ``utils/UpdateDecoder.js`` (``readJSON``).
"""

import codecs
import json
import re
from collections.abc import Container
from typing import NoReturn

from .lib0 import MalformedError, Steps, read_varuint

LARGE_TEXT = 65_536
"""Bytes of a text above which it is checked in parts."""
MANY_VALUES = 2048
"""Values of one step."""
MAX_DEPTH = 500
"""Largest depth of nested values, since decoders are recursive."""
MAX_INTEGER = 2**53 - 1
"""The largest integer that lib0 reads in a value. It writes integers with more than 31 bits in another form."""

MAX_SHIFT = 62
"""Bits of such an integer, without zeros at its end."""
NULL, UNDEFINED = 126, 127
"""First bytes of values."""

OpenValues = list[tuple[int, bool]]
"""The containers around a value: for each array or object, the number of values left, and whether they have keys."""

_SHORT_JSON = frozenset((b"true", b"false", b"null", b'""', b"{}", b"[]"))


class LongTextError(Exception):
    """A text needs several steps: check the bytes from `at` to `end` with `long_text`."""

    def __init__(self, at: int, end: int) -> None:
        self.at, self.end = at, end


class LongContentError(Exception):
    """A content needs several steps: run `steps`, which returns its length and the offset after it."""

    def __init__(self, steps: Steps[tuple[int, int]]) -> None:
        self.steps = steps


def skip_text(data: bytes, at: int, checked: Container[int] = ()) -> int:
    """Return the offset after the length-prefixed text at offset `at`.

    Args:
        data: the bytes with the text.
        at: the offset.
        checked: offsets of long texts that were checked before.

    Raises:
        MalformedError, IndexError: there is no valid text at the offset.
        LongTextError: the text is long and was not checked before.
    """
    size = data[at]
    at += 1
    if size > 0x7F:
        size, at = read_varuint(data, at - 1)
    end = at + size
    if end > len(data):
        raise MalformedError("it ends before a text does")
    if size > LARGE_TEXT:
        if at in checked:
            return end
        raise LongTextError(at, end)
    text = data[at:end]
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            raise MalformedError("a text is not UTF-8") from None
    return end


def utf16_length(text: bytes) -> int:
    """Return the length of a UTF-8 text in UTF-16 code units, as in JavaScript.

    Raises:
        MalformedError: the bytes are not UTF-8.
    """
    if text.isascii():
        return len(text)
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise MalformedError("a text is not UTF-8") from None
    return len(decoded.encode("utf-16-le")) // 2


def long_text(data: bytes, at: int, end: int) -> Steps[tuple[int, int]]:
    """Return the length in UTF-16 code units of the text from `at` to `end`, and `end`."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    length = 0
    for start in range(at, end, LARGE_TEXT):
        stop = min(start + LARGE_TEXT, end)
        try:
            part = decode(data[start:stop], final=stop == end)
        except UnicodeDecodeError:
            raise MalformedError("a text is not UTF-8") from None
        length += len(part) if part.isascii() else len(part.encode("utf-16-le")) // 2
        yield
    return length, end


def skip_values(data: bytes, at: int, open_values: OpenValues) -> int:
    """Skip at most `MANY_VALUES` values that lib0's ``writeAny`` has written.

    Args:
        data: the bytes with the values.
        at: the offset of the next value.
        open_values: the containers around it; is updated. The values have ended when it is empty.

    Returns:
        the offset after the skipped values.

    Raises:
        MalformedError, IndexError: a value is not valid.
        LongTextError: a text is long. Check it, then call this with the offset after it and the same `open_values`.
    """
    for _ in range(MANY_VALUES):
        if not open_values:
            break
        left, keyed = open_values.pop()
        if not left:
            continue
        open_values.append((left - 1, keyed))
        if keyed:
            try:
                at = skip_text(data, at)
            except LongTextError:
                open_values.append((1, False))  # its value
                raise
        kind = data[at]
        at += 1
        if kind == 119:
            at = skip_text(data, at)
        elif kind == 125:
            number, shift = data[at] & 0x3F, 6  # the sign is in the first byte
            while data[at] >= 0x80:
                at += 1
                number += (data[at] & 0x7F) << shift
                shift += 7
                if number > MAX_INTEGER or shift > MAX_SHIFT:
                    raise MalformedError("a number is too large")
            at += 1
        elif kind in (120, 121, NULL, UNDEFINED):  # 120 and 121 are true and false
            pass
        elif kind in (122, 123, 124):  # big integer, double, float
            at += 4 if kind == 124 else 8
        elif kind in (117, 118):  # array, object
            inner, at = read_varuint(data, at)
            open_values.append((inner, kind == 118))
            if len(open_values) > MAX_DEPTH:
                raise MalformedError(f"values stand more than {MAX_DEPTH} levels within each other")
        elif kind == 116:  # bytes
            size, at = read_varuint(data, at)
            at += size
        else:
            raise MalformedError(f"there is no value {kind}")
    if at > len(data):
        raise MalformedError("it ends before a value does")
    return at


def long_values(data: bytes, at: int, open_values: OpenValues) -> Steps[int]:
    """Skip values to their end; return the offset after them."""
    while open_values:
        try:
            at = skip_values(data, at, open_values)
        except LongTextError as text:
            _, at = yield from long_text(data, text.at, text.end)
        if open_values:
            yield
    return at


def skip_json(data: bytes, at: int) -> int:
    """Return the offset after the length-prefixed JSON text at offset `at`.

    Raises:
        MalformedError: there is no text, or JavaScript cannot parse it.
        LongContentError: the text is long.
    """
    size, at = read_varuint(data, at)
    end = at + size
    if end > len(data):
        raise MalformedError("it ends before a text does")
    if size > LARGE_TEXT:
        raise LongContentError(long_json(data, at, end))
    text = data[at:end]
    if text not in _SHORT_JSON:
        try:
            parse_json(text.decode())
        except (ValueError, RecursionError):
            raise MalformedError("a value is not JSON") from None
    return end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# Numbers stay strings: Python limits the digits of an integer, JavaScript does not.
parse_json = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).decode
"""Parses the JSON that JavaScript accepts: no NaN, no Infinity. Raises ValueError or RecursionError otherwise."""

_SPACE = re.compile(rb"[ \t\n\r]{0,4096}")
_SCALAR = re.compile(
    rb"(?:true|false|null|-?(?:0|[1-9][0-9]{0,4096})(?:\.[0-9]{1,4096})?(?:[eE][+-]?[0-9]{1,4096})?)(?![0-9.eE+-])"
)
_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')


def long_json(data: bytes, at: int, end: int) -> Steps[tuple[int, int]]:
    """Check a long JSON text from `at` to `end`, token by token; return 1 (its length as a content), and `end`.

    Raises:
        MalformedError: JavaScript cannot parse it.
    """
    yield from long_text(data, at, end)
    stack = bytearray()  # the open brackets
    wanted = b"v"  # expected tokens: a (v)alue, (k)ey, (c)olon, or one that ends or continues the container
    tokens = 0
    while True:
        tokens += 1
        if tokens % MANY_VALUES == 0:
            yield
        while (space := _SPACE.match(data, at, end)) and space.end() > at:
            at = space.end()
        if wanted == b"e" and not stack:
            if at != end:
                raise MalformedError("a value is not JSON")
            return 1, end
        token = data[at : min(at + 1, end)]
        if token == b'"' and wanted in (b"v", b"k", b"K", b"V"):
            at = yield from _long_string(data, at + 1, end)
            wanted = b"c" if wanted in (b"k", b"K") else b"e"
        elif wanted in (b"v", b"V") and token in (b"{", b"["):
            stack += token
            if len(stack) > MAX_DEPTH:
                raise MalformedError(f"values stand more than {MAX_DEPTH} levels within each other")
            at += 1
            wanted = b"K" if token == b"{" else b"V"
        elif (token == b"}" and wanted in (b"e", b"K") and stack[-1:] == b"{") or (
            token == b"]" and wanted in (b"e", b"V") and stack[-1:] == b"["
        ):
            stack.pop()
            at += 1
            wanted = b"e"
        elif token == b":" and wanted == b"c":
            at += 1
            wanted = b"v"
        elif token == b"," and wanted == b"e" and stack:
            at += 1
            wanted = b"k" if stack[-1:] == b"{" else b"v"
        elif wanted in (b"v", b"V") and (scalar := _SCALAR.match(data, at, end)):
            at = scalar.end()
            wanted = b"e"
        else:
            raise MalformedError("a value is not JSON")


def _long_string(data: bytes, at: int, end: int) -> Steps[int]:
    """Return the offset after the JSON string whose first character is at offset `at`."""
    escapes = 0
    while at < end:
        window = min(at + LARGE_TEXT, end)
        special = _SPECIAL.search(data, at, window)
        if special is None:
            at = window
            yield
            continue
        at = special.start()
        if data[at] == 0x22:
            return at + 1
        escape = _ESCAPE.match(data, at, end)
        if escape is None:
            break
        at = escape.end()
        escapes += 1
        if escapes % MANY_VALUES == 0:
            yield
    raise MalformedError("a value is not JSON")
