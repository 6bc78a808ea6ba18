"""The process that reads a document with pycrdt: ``python -m opennoodl_sync.workers.interpretation_process TASK``.

It reads a message with one update from standard input, and writes the result to standard output. After a failure, the
last line on standard error is the reason.

    json   the document as JSON
    state  the document's state vector, in the encoding of Yjs

A malicious document can make pycrdt take very long, use much memory, or panic. Therefore it runs in a process.
"""

import sys
from typing import Any

from pycrdt import Doc

from .json_export import to_json
from .limits import limit_memory, lower_priority
from .messages import read

MEMORY = 2 * 2**30
"""Bytes of address space for the process."""


def main() -> None:
    """Run the task that is named on the command line."""
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
    except BaseException as error:  # a panic in Rust is not an Exception
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
    sys.stdout.buffer.write(result)


if __name__ == "__main__":
    main()
