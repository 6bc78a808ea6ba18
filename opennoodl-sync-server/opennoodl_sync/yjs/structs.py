"""Structs: the elements that an update adds. They are read far enough to know where each ends, and never decoded.

Source of the format: yjs 13, ``utils/encoding.js`` (``readClientsStructRefs``) and ``structs/*.js``.
"""

from .contents import (
    LARGE_TEXT,
    NULL,
    UNDEFINED,
    LongContentError,
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
"""What the other bits say that an item has."""
XML_ELEMENT, XML_HOOK, LAST_TYPE = 3, 5, 6
"""Types of `TYPE`; the two that are named have a name behind them."""

REMEMBERED_CLIENTS = 4096
"""Clients that are remembered as they are written."""
UNDEFINED_TEXT = b"\x09undefined"
"""What `JSON` has in place of a JSON text where the value is undefined."""
REPLACEMENT = "\ufffd".encode()
"""What Yjs puts in place of half a character."""

_clients: dict[bytes, int] = {}
"""What was read lately by `read_client`."""


def read_client(data: bytes, at: int) -> tuple[int, int]:
    """Return the client at offset `at` and the offset behind it.

    Yjs draws clients from 32 bits, of which nearly all take five bytes, and they come again in every update.
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


def read_struct(data: bytes, at: int, client: int, clock: int) -> tuple[int, int]:
    """Return the length of the struct at offset `at`, in clocks, and the offset behind it.

    Args:
        data: the update.
        at: the offset.
        client: whose struct it is.
        clock: of its first element.

    Raises:
        MalformedError, IndexError: a Yjs client could not decode or integrate it.
        LongContentError: its content takes long to look at.
    """
    kind = data[at] & KIND
    at = skip_head(data, at, client, clock)
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
        open_values: OpenValues = [(length, False)]
        at = skip_values(data, at, open_values)
        if open_values:
            raise LongContentError(long_values(data, at, open_values, length))
        return length, at
    if kind == TYPE:
        reference, at = read_varuint(data, at)
        if reference > LAST_TYPE:
            raise MalformedError(f"there is no type {reference}")
        return 1, skip_text(data, at) if reference in (XML_ELEMENT, XML_HOOK) else at
    if kind in (GC, DELETED, SKIP):
        return _read_length(data, at)
    if kind == FORMAT:
        return 1, skip_json(data, skip_text(data, at))
    if kind == EMBED:
        return 1, skip_json(data, at)
    if kind == BINARY:
        size, at = read_varuint(data, at)
        if at + size > len(data):
            raise MalformedError("it ends before its bytes do")
        return 1, at + size
    if kind == DOC:
        at = skip_text(data, at)
        if data[at] in (NULL, UNDEFINED):
            raise MalformedError("a subdocument has no options")
        return _skip_values(data, at, 1)
    if kind == JSON:
        length, at = _read_length(data, at)
        raise LongContentError(_texts(data, at, length))
    raise MalformedError(f"there is no content {kind}")


def skip_head(data: bytes, at: int, client: int, clock: int) -> int:
    """Return the offset of the content of the struct at offset `at`.

    Yjs takes for granted that an item of the same client that this one refers to is there, and fails if it comes
    later (``Item.getMissing``).

    Raises:
        MalformedError, IndexError: there is no struct, or it refers to a later one of the same client.
    """
    info = data[at]
    at += 1
    if info & ORIGIN:
        if info & KIND in (GC, SKIP):
            return at
        at = _skip_id(data, at, client, clock)
        return _skip_id(data, at, client, clock) if info & RIGHT_ORIGIN else at
    if info & KIND in (GC, SKIP):
        return at
    if info & RIGHT_ORIGIN:
        return _skip_id(data, at, client, clock)
    named, at = read_varuint(data, at)
    at = skip_text(data, at) if named == 1 else _skip_id(data, at, client, clock)
    return skip_text(data, at) if info & PARENT_KEY else at


def _skip_id(data: bytes, at: int, client: int, clock: int) -> int:
    """Return the offset behind the id at offset `at`, to which the struct at `clock` refers."""
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
    """Return the struct at offset `at` without its first `offset` elements, as yjs' ``Item.write`` does.

    Args:
        data: the update, which was read before.
        at: the offset.
        client: whose struct it is.
        clock: of its first element.
        offset: less than its length, and more than 0.
    """
    info = data[at]
    kind = info & KIND
    content = skip_head(data, at, client, clock)
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
        text = _cut_text(data[read_varuint(data, content)[1] : end], offset)
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
    """Do what `read_struct` does, however long it takes."""
    try:
        return read_struct(data, at, client, clock)
    except LongContentError as long:
        steps = long.steps
    return (yield from steps)


def _cut_text(text: bytes, offset: int) -> bytes:
    """Return a text without its first `offset` UTF-16 units; half a character becomes U+FFFD, as in Yjs."""
    if text.isascii():
        return text[offset:]
    units = text.decode().encode("utf-16-le")[2 * offset :]
    if 0xDC <= units[1] <= 0xDF:
        return REPLACEMENT + units[2:].decode("utf-16-le").encode()
    return units.decode("utf-16-le").encode()


def _skip_one(data: bytes, at: int) -> Steps[int]:
    open_values: OpenValues = [(1, False)]
    at = skip_values(data, at, open_values)
    while open_values:
        yield
        at = skip_values(data, at, open_values)
    return at


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    length, at = read_varuint(data, at)
    if not length:
        raise MalformedError("a struct is empty")
    return length, at


def _skip_values(data: bytes, at: int, length: int) -> tuple[int, int]:
    open_values: OpenValues = [(length, False)]
    at = skip_values(data, at, open_values)
    if open_values:
        raise LongContentError(long_values(data, at, open_values, length))
    return length, at


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
