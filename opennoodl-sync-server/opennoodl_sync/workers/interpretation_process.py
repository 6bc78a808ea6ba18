"""The process that asks pycrdt what a document means: ``python -m opennoodl_sync.workers.interpretation_process TASK``.

It reads a message with an update from standard input and writes the result to standard output. If it fails, the last
line on standard error says why.

    json   the document as JSON
    state  the document's state vector, as Yjs encodes it

pycrdt may take very long, take very much memory, or panic on documents that were made to do harm; hence a process.
"""

import sys
from typing import Any

from pycrdt import Doc

from .json_export import to_json
from .limits import limit_memory, lower_priority
from .messages import read

MEMORY = 2 * 2**30
"""Bytes of address space that the process may take."""


def main() -> None:
    """Do one task."""
    lower_priority()
    limit_memory(MEMORY)
    try:
        doc: Doc[Any] = Doc()
        (update,) = read(sys.stdin.buffer, lambda _: None)
        doc.apply_update(update)
        result = doc.get_state() if sys.argv[1] == "state" else to_json(doc)
    except RecursionError:
        sys.exit("it is nested too deeply for JSON; `--format update` has all of it")
    except MemoryError:
        sys.exit(f"it takes more than {MEMORY // 2**20} MiB of memory")
    except BaseException as error:  # a panic in Rust is no Exception
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
    sys.stdout.buffer.write(result)


if __name__ == "__main__":
    main()
