"""Structs: the elements of an update. Each is read up to its end, and its content is not decoded.

Source of the format: yjs 13, ``utils/encoding.js`` (``readClientsStructRefs``) and ``structs/*.js``.
"""

from collections.abc import Container

from .contents import (
    LARGE_TEXT,
    NULL,
    UNDEFINED,
    LongContentError,
    LongTextError,
    OpenValues,
    long_json,
    long_text,
    long_values,
    skip_json,
    skip_text,
    skip_values,
    utf16_length,
)
from .lib0 import MalformedError, Steps, read_varuint, write_varuint

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
"""Kinds of structs: the five low bits of the first byte."""
ORIGIN, RIGHT_ORIGIN, PARENT_KEY, KIND = 0x80, 0x40, 0x20, 0x1F
"""Flags in the other bits of the first byte: the parts that an item has."""
XML_ELEMENT, XML_HOOK, LAST_TYPE = 3, 5, 6
"""Types of `TYPE`; after these two, their name follows."""

REMEMBERED_CLIENTS = 4096
"""Size of the cache of client ids by their encoded form."""
UNDEFINED_TEXT = b"\x09undefined"
"""The text of an undefined value in `JSON`."""
REPLACEMENT = "\ufffd".encode()
"""The character with which Yjs replaces half of a surrogate pair."""
CHECKED = range(2**63)
"""All offsets: for data whose texts were all checked before."""

_clients: dict[bytes, int] = {}
"""The cache of `read_client`."""


def read_client(data: bytes, at: int) -> tuple[int, int]:
    """Return the client id at offset `at`, and the offset after it.

    Yjs draws client ids from 32 bits. Nearly all take five bytes, and they are repeated in every update.
    """
    found = _clients.get(data[at : at + 5])
    if found is not None:
        return found, at + 5
    client, end = read_varuint(data, at)
    if end - at == 5:
        if len(_clients) >= REMEMBERED_CLIENTS:
            _clients.clear()
        _clients[data[at:end]] = client
    return client, end


def read_struct(data: bytes, at: int, client: int, clock: int, checked: tuple[int, ...] = ()) -> tuple[int, int]:
    """Return the length of the struct at offset `at` in clocks, and the offset after it.

    Args:
        data: the update.
        at: the offset.
        client: the client of the struct.
        clock: the clock of its first element.
        checked: offsets of long texts that were checked before.

    Raises:
        MalformedError, IndexError: a Yjs client could not decode or integrate the struct.
        LongContentError: its content needs several steps.
    """
    begin = at
    try:
        kind = data[at] & KIND
        at = skip_head(data, at, client, clock, checked)
        if kind == STRING:
            size = data[at]
            at += 1
            if size > 0x7F:
                size, at = read_varuint(data, at - 1)
                if size > LARGE_TEXT and at + size <= len(data):
                    raise LongContentError(long_text(data, at, at + size))
            end = at + size
            if end > len(data):
                raise MalformedError("it ends before a text does")
            text = data[at:end]
            return (size if text.isascii() else utf16_length(text)), end
        if kind == ANY:
            length, at = _read_length(data, at)
            return length, _skip_values(data, at, length)
        if kind == TYPE:
            reference, at = read_varuint(data, at)
            if reference > LAST_TYPE:
                raise MalformedError(f"there is no type {reference}")
            return 1, skip_text(data, at, checked) if reference in (XML_ELEMENT, XML_HOOK) else at
        if kind in (GC, DELETED, SKIP):
            return _read_length(data, at)
        if kind == FORMAT:
            return 1, skip_json(data, skip_text(data, at, checked))
        if kind == EMBED:
            return 1, skip_json(data, at)
        if kind == BINARY:
            size, at = read_varuint(data, at)
            if at + size > len(data):
                raise MalformedError("it ends before its bytes do")
            return 1, at + size
        if kind == DOC:
            at = skip_text(data, at, checked)
            if data[at] in (NULL, UNDEFINED):
                raise MalformedError("a subdocument has no options")
            return 1, _skip_values(data, at, 1)
        if kind == JSON:
            length, at = _read_length(data, at)
            raise LongContentError(_texts(data, at, length))
    except LongTextError as text:
        raise LongContentError(_read_after(text, data, (begin, client, clock), checked)) from None
    raise MalformedError(f"there is no content {kind}")


def _read_after(
    text: LongTextError, data: bytes, struct: tuple[int, int, int], checked: tuple[int, ...]
) -> Steps[tuple[int, int]]:
    """Check a long text of a struct, then read the struct, given by its offset, client and clock."""
    yield from long_text(data, text.at, text.end)
    try:
        return read_struct(data, *struct, (*checked, text.at))
    except LongContentError as long:
        steps = long.steps
    return (yield from steps)


def skip_head(data: bytes, at: int, client: int, clock: int, checked: Container[int] = ()) -> int:
    """Return the offset of the content of the struct at offset `at`.

    Yjs assumes that a referenced item of the same client is present, and fails if it comes later (``Item.getMissing``).

    Raises:
        MalformedError, IndexError: there is no struct, or it refers to a later one of the same client.
        LongTextError: a long text was not `checked` before.
    """
    info = data[at]
    at += 1
    if info & KIND in (GC, SKIP):
        if info & KIND == SKIP and info != SKIP:  # a gap for ``applyUpdate``, but an item for ``mergeUpdates``
            raise MalformedError("a gap has the flags of an item")
        return at
    if info & ORIGIN:
        at = _skip_id(data, at, client, clock)
        return _skip_id(data, at, client, clock) if info & RIGHT_ORIGIN else at
    if info & RIGHT_ORIGIN:
        return _skip_id(data, at, client, clock)
    named, at = read_varuint(data, at)
    at = skip_text(data, at, checked) if named == 1 else _skip_id(data, at, client, clock)
    return skip_text(data, at, checked) if info & PARENT_KEY else at


def _skip_id(data: bytes, at: int, client: int, clock: int) -> int:
    """Return the offset after the id at offset `at`, which the struct at `clock` refers to."""
    other = _clients.get(data[at : at + 5])
    if other is None:
        other, at = read_client(data, at)
    else:
        at += 5
    needed = data[at]
    at += 1
    if needed > 0x7F:
        needed, at = read_varuint(data, at - 1)
    if other == client and needed >= clock:
        raise MalformedError("an element refers to a later one of its client")
    return at


def cut_struct(data: bytes, at: int, client: int, clock: int, offset: int) -> Steps[bytes]:
    """Return the struct at offset `at` without its first `offset` elements, like yjs' ``Item.write``.

    Args:
        data: the update, which was read before.
        at: the offset.
        client: the client of the struct.
        clock: the clock of its first element.
        offset: between 0 and the struct's length, both excluded.
    """
    info = data[at]
    kind = info & KIND
    content = skip_head(data, at, client, clock, CHECKED)
    length, end = yield from struct_end(data, at, client, clock)
    if kind in (GC, SKIP):
        return bytes((info,)) + write_varuint(length - offset)
    right = b""
    if info & RIGHT_ORIGIN:
        begin = at + 1
        if info & ORIGIN:
            begin = read_varuint(data, read_varuint(data, begin)[1])[1]
        right = data[begin:content]
    head = bytes((info & (RIGHT_ORIGIN | KIND) | ORIGIN,))
    head += write_varuint(client) + write_varuint(clock + offset - 1) + right
    if kind == DELETED:
        return head + write_varuint(length - offset)
    if kind == STRING:
        text = yield from _cut_text(data, read_varuint(data, content)[1], end, offset)
        if len(text) > LARGE_TEXT:
            yield
        return head + write_varuint(len(text)) + text
    content = read_varuint(data, content)[1]
    if kind == ANY:
        for number in range(offset):
            content = yield from _skip_one(data, content)
            if number % 1024 == 1023:
                yield
    else:
        for number in range(offset):
            size, content = read_varuint(data, content)
            content += size
            if number % 1024 == 1023:
                yield
    return head + write_varuint(length - offset) + data[content:end]


def struct_end(data: bytes, at: int, client: int, clock: int) -> Steps[tuple[int, int]]:
    """Do the same as `read_struct`, in steps if the content is long."""
    try:
        return read_struct(data, at, client, clock)
    except LongContentError as long:
        steps = long.steps
    return (yield from steps)


def _cut_text(data: bytes, at: int, end: int, offset: int) -> Steps[bytes]:
    """Return the text from `at` to `end` without its first `offset` UTF-16 code units.

    Half of a surrogate pair becomes U+FFFD, as in Yjs.
    """
    while end - at > LARGE_TEXT:
        stop = at + LARGE_TEXT
        while data[stop] & 0xC0 == 0x80:  # within a character
            stop -= 1
        units = utf16_length(data[at:stop])
        if units > offset:
            begin = yield from _cut_text(data, at, stop, offset)
            yield  # a step for each copy, since it may be megabytes
            return b"".join((begin, memoryview(data)[stop:end]))
        offset -= units
        at = stop
        yield
    text = data[at:end]
    if text.isascii():
        return text[offset:]
    units16 = text.decode().encode("utf-16-le")[2 * offset :]
    if units16 and 0xDC <= units16[1] <= 0xDF:
        return REPLACEMENT + units16[2:].decode("utf-16-le").encode()
    return units16.decode("utf-16-le").encode()


def _skip_one(data: bytes, at: int) -> Steps[int]:
    return (yield from long_values(data, at, [(1, False)]))


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    length, at = read_varuint(data, at)
    if not length:
        raise MalformedError("a struct is empty")
    return length, at


def _skip_values(data: bytes, at: int, length: int) -> int:
    open_values: OpenValues = [(length, False)]
    try:
        at = skip_values(data, at, open_values)
    except LongTextError as text:
        check = long_text(data, text.at, text.end)
        raise LongContentError(_values(data, text.end, open_values, length, check)) from None
    if open_values:
        raise LongContentError(_values(data, at, open_values, length))
    return at


def _values(
    data: bytes, at: int, open_values: OpenValues, length: int, check: Steps[object] | None = None
) -> Steps[tuple[int, int]]:
    """Skip values to their end, after the steps of `check`; return `length` and the offset after them."""
    if check is not None:
        yield from check
    return length, (yield from long_values(data, at, open_values))


def _texts(data: bytes, at: int, length: int) -> Steps[tuple[int, int]]:
    """Skip the texts of a `JSON` content, which Yjs has not written since version 13.0."""
    for number in range(length):
        if data[at : at + len(UNDEFINED_TEXT)] == UNDEFINED_TEXT:
            at += len(UNDEFINED_TEXT)
        else:
            try:
                at = skip_json(data, at)
            except LongContentError:
                size, at = read_varuint(data, at)
                yield from long_json(data, at, at + size)
                at += size
        if number % 256 == 255:
            yield
    return length, at
