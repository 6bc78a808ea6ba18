"""The process that asks pycrdt what a document means: ``python -m opennoodl_sync.workers.interpretation TASK``.

It reads an update from standard input and writes the result to standard output. If it fails, the last line on standard
error says why.

    json   the document as JSON
    state  the document's state vector, as Yjs encodes it

pycrdt may take very long, take very much memory, or panic on documents that were made to do harm; hence a process.
"""

import sys
from typing import Any

import msgspec
from pycrdt import Array, Doc, Map, Text, XmlFragment

from .limits import limit_memory, lower_priority

MEMORY = 2 * 2**30
"""Bytes of address space that the process may take."""


def main() -> None:
    """Do one task."""
    lower_priority()
    limit_memory(MEMORY)
    try:
        doc: Doc[Any] = Doc()
        doc.apply_update(sys.stdin.buffer.read())
        result = doc.get_state() if sys.argv[1] == "state" else to_json(doc)
    except MemoryError:
        sys.exit(f"it takes more than {MEMORY // 2**20} MiB of memory")
    except BaseException as error:  # a panic in Rust is no Exception
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
    sys.stdout.buffer.write(result)


def to_json(doc: Doc[Any]) -> bytes:
    """Return a document as JSON for people to read; a root is shown as what its content suggests."""
    roots = {root: _plain(doc, root) for root in sorted(doc.keys())}
    return msgspec.json.format(msgspec.json.encode(roots, enc_hook=_subdocument))


def _subdocument(value: object) -> dict[str, str]:
    """Return a value that has no JSON: it is a document within the document, which does not have its content."""
    assert isinstance(value, Doc)
    return {"subdocument": value.guid}


def _plain(doc: Doc[Any], root: str) -> object:
    """Return a root as plain values: a map if it has entries, else a text, a list, or XML as text."""
    entries = doc.get(root, type=Map).to_py()
    if entries:
        return entries
    text = str(doc.get(root, type=Text))
    if text:
        return text
    try:
        return doc.get(root, type=Array).to_py()
    except ValueError:  # its items have no plain value: they are XML
        return str(doc.get(root, type=XmlFragment))


if __name__ == "__main__":
    main()
