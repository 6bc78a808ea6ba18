"""Contents of structs: checked to be what a Yjs client can decode, and skipped. No value is ever made of them.

Sources: lib0 ``decoding.js`` (``readAny``, ``readVarString``); yjs 13 ``utils/UpdateDecoder.js`` (``readJSON``).
"""

import codecs
import json
import re
from collections.abc import Container
from typing import NoReturn

from .lib0 import MalformedError, Steps, read_varuint

LARGE_TEXT = 65_536
"""Bytes of a text that is looked at in parts."""
MANY_VALUES = 2048
"""Values that are skipped at once."""
MAX_DEPTH = 500
"""Levels of values within each other; decoders are recursive."""
MAX_INTEGER = 2**53 - 1
"""The largest integer among values that lib0 reads; it writes no more than 31 bits in this way."""

MAX_SHIFT = 62
"""Bits of such an integer, with zeros at its end."""
NULL, UNDEFINED = 126, 127
"""First bytes of values."""

OpenValues = list[tuple[int, bool]]
"""What surrounds a value: of each array or object, how many values are left in it, and whether they have keys."""

_SHORT_JSON = frozenset((b"true", b"false", b"null", b'""', b"{}", b"[]"))


class LongTextError(Exception):
    """A text takes long to look at: it stands from `at` to `end`, and has to be checked with `long_text`."""

    def __init__(self, at: int, end: int) -> None:
        self.at, self.end = at, end


class LongContentError(Exception):
    """A content takes long to look at: the `steps` are to be done, which return its length and the offset behind it."""

    def __init__(self, steps: Steps[tuple[int, int]]) -> None:
        self.steps = steps


def skip_text(data: bytes, at: int, checked: Container[int] = ()) -> int:
    """Return the offset behind the length-prefixed text at offset `at`.

    Args:
        data: has the text.
        at: the offset.
        checked: offsets at which long texts begin that were checked before.

    Raises:
        MalformedError, IndexError: there is none.
        LongTextError: it is long, and was not checked before.
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
    """Return the length of a text as JavaScript counts it, in UTF-16 units.

    Raises:
        MalformedError: it is not UTF-8.
    """
    if text.isascii():
        return len(text)
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise MalformedError("a text is not UTF-8") from None
    return len(decoded.encode("utf-16-le")) // 2


def long_text(data: bytes, at: int, end: int) -> Steps[tuple[int, int]]:
    """Return the length in UTF-16 units of the text from `at` to `end`, and `end`."""
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
    """Skip plain values as lib0's ``writeAny`` writes them, and no more than `MANY_VALUES` at once.

    Args:
        data: has the values.
        at: the offset of the next one.
        open_values: is changed; when nothing is left in it, the values have ended.

    Returns:
        the offset behind those that were skipped.

    Raises:
        MalformedError, IndexError: these are none.
        LongTextError: there is a long text; when it is checked, this goes on behind it with the same `open_values`.
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
        elif kind in (120, 121, NULL, UNDEFINED):  # true and false besides
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
    """Skip values to their end; return the offset behind them."""
    while open_values:
        try:
            at = skip_values(data, at, open_values)
        except LongTextError as text:
            _, at = yield from long_text(data, text.at, text.end)
        if open_values:
            yield
    return at


def skip_json(data: bytes, at: int) -> int:
    """Return the offset behind the length-prefixed JSON text at offset `at`.

    Raises:
        MalformedError: there is none, or JavaScript could not read it.
        LongContentError: it is long.
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


# Numbers stay texts: Python limits the digits of an integer, JavaScript does not.
parse_json = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).decode
"""Reads what JavaScript takes for JSON: no NaN, no Infinity. It raises ValueError or RecursionError for the rest."""

_SPACE = re.compile(rb"[ \t\n\r]{0,4096}")
_SCALAR = re.compile(
    rb"(?:true|false|null|-?(?:0|[1-9][0-9]{0,4096})(?:\.[0-9]{1,4096})?(?:[eE][+-]?[0-9]{1,4096})?)(?![0-9.eE+-])"
)
_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')


def long_json(data: bytes, at: int, end: int) -> Steps[tuple[int, int]]:
    """Check a long JSON text from `at` to `end` token by token; return 1, which is its length as a content, and `end`.

    Raises:
        MalformedError: JavaScript could not read it.
    """
    yield from long_text(data, at, end)
    stack = bytearray()  # the brackets that are open
    wanted = b"v"  # a value, (k)ey, (c)olon, or what ends or continues what surrounds it
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
    """Return the offset behind the JSON string whose first character is at offset `at`."""
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
