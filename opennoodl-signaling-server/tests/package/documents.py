"""The documentation as tests read it: sections, tables, and the fields of messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import msgspec
from msgspec import UnsetType

from ..edge.harness import PACKAGE

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """Return the text of a document of this package."""
    return (ROOT / name).read_text()


def section(text: str, title: str) -> str:
    """Return the section `title` of a document, with its subsections."""
    head = re.search(rf"^(##+) {title}\n", text, flags=re.MULTILINE)
    assert head is not None, f"the document has no section {title}"
    end = re.compile(rf"^#{{2,{len(head[1])}}} ", flags=re.MULTILINE).search(text, head.end())
    return text[head.end() : end.start() if end else len(text)]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row in `text`, without the table heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    heads = {i for i, line in enumerate(lines) if set(line) <= set("| -")}
    heads |= {i - 1 for i in heads}
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        for i, line in enumerate(lines)
        if i not in heads
    ]


def code(text: str) -> set[str]:
    """Return everything in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def compare(documented: Collection[Any], declared: Collection[Any]) -> None:
    """Fail if a document and the code differ, and say which of the two lacks what.

    Args:
        documented: rows or names of the document; of mappings, keys and values count.
        declared: the same of the code.
    """
    page, source = set(_lines(documented)), set(_lines(declared))
    if page != source:
        raise AssertionError(f"the code lacks {sorted(page - source)}, the document lacks {sorted(source - page)}")
    assert len(documented) == len(declared), "something is empty, or stands in the document twice"


def _lines(compared: Collection[Any]) -> Iterator[str]:
    """Yield what is compared, one by one, also within mappings of mappings."""
    if not isinstance(compared, Mapping):
        yield from map(str, compared)
        return
    for key, value in compared.items():
        yield from [f"{key}: {line}" for line in _lines(value)] if isinstance(value, Mapping) else [f"{key}: {value}"]


CLOSING = ("CloseConnection", "Close", "disconnect")
"""What is called with a close code."""

Fields = dict[str, dict[str, str]]
"""The type of every field of every message; the name of an optional field ends with a question mark."""


def documented_fields(text: str) -> Fields:
    """Return the fields that the tables in `text` list: columns message, field, type, meaning.

    A row without a message belongs to the messages above it.
    """
    messages: Fields = {}
    fields: dict[str, str] = {}
    for message, field, kind, *_ in rows(text):
        if message:
            fields = {}
            messages |= dict.fromkeys(code(message), fields)
        if field:
            fields[field.strip("`")] = kind
    return messages


def declared_fields(kinds: Iterable[Any]) -> Fields:
    """Return the fields that message classes declare, but for `requestId`, which is documented once for all."""
    return {
        str(kind.__struct_config__.tag or kind.__name__): {
            field.encode_name + ("" if field.required else "?"): type_name(field.type)
            for field in msgspec.structs.fields(kind)
            if field.encode_name != "requestId"
        }
        for kind in kinds
    }


def type_name(kind: Any) -> str:
    """Return what the documentation calls a type."""
    choices = [choice for choice in get_args(kind) if choice not in (NoneType, UnsetType)]
    if len(choices) == 1 and len(choices) < len(get_args(kind)) and not hasattr(kind, "__metadata__"):
        kind = choices[0]  # an optional field: its table row says so
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        (info,) = (part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    return _type_name(info)


def _type_name(info: Any) -> str:
    match info:
        case msgspec.inspect.Metadata():
            return _type_name(info.type)
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.IntType(ge=None):
            return "integer"
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"integer from {least}" + ("" if most is None else f" to {most}")
        case msgspec.inspect.StrType(min_length=1, max_length=256):
            return "id"
        case msgspec.inspect.StrType(max_length=None):
            return "string"
        case msgspec.inspect.StrType(max_length=most):
            return f"string of at most {most} characters"
        case msgspec.inspect.DateTimeType():
            return "time"
        case msgspec.inspect.RawType() | msgspec.inspect.AnyType():
            return "any JSON"
        case msgspec.inspect.LiteralType():
            return "notification type"
        case msgspec.inspect.StructType(cls=cls):
            return f"`{cls.__name__}`"
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType() | msgspec.inspect.CollectionType():
            size = "" if info.max_length is None else f" of at most {info.max_length}"
            return f"array{size}: {_type_name(info.item_type)}"
    raise AssertionError(f"the documentation has no name for {info}")


def closing_codes() -> set[str]:
    """Return the close codes that this package sends: 1009 through websockets, the others by name in its code.

    The edge's own answers for servers of JSON (1008, and 1013 for a slow client) are not sync's: it reads a
    fast client more slowly, and sends a slow one less.
    """
    edge: set[str] = set()
    own: set[str] = set()
    speaks_json = False
    for path in (ROOT / PACKAGE).rglob("*.py"):
        if "edge" in path.relative_to(ROOT).parts:
            edge |= _sent_codes(path)
        else:
            own |= _sent_codes(path)
            speaks_json |= "JsonApplication" in path.read_text()
    return {"1009"} | own | (edge if speaks_json else edge - {"1008", "1013"})


def _sent_codes(path: Path) -> set[str]:
    """Return the close codes in the calls that close a connection; a name in capitals stands for its constant."""
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    codes: set[str] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) in CLOSING:
            for node in (part for argument in call.args for part in ast.walk(argument)):
                code = node.value if isinstance(node, ast.Constant) else constants.get(getattr(node, "id", ""))
                if isinstance(code, int) and 1000 <= code <= 4999:
                    codes.add(str(code))
    return codes
