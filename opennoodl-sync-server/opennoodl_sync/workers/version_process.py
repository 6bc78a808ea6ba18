"""The process that makes and restores versions: ``python -m opennoodl_sync.workers.version_process TASK``.

It reads a message from standard input and writes the result to standard output. After a failure, the last line on
standard error is the reason. It imports only the engine.

    make     input: the updates of a document; output: the content of a version
    restore  input: the content of the version, and of one of the present document; output: the restoring update
"""

import secrets
import sys

from ..memory.allocator import keep_large_blocks_apart
from ..versions.content import pack, unpack
from ..yjs.compaction import compact_records
from ..yjs.document import DamagedError, Document
from ..yjs.lib0 import MalformedError, finish
from ..yjs.restore import RestoreError, restoring_update
from .limits import be_killed_first, ignore_signals, limit_memory, lower_priority
from .messages import read

MEMORY = 2 * 2**30
"""Bytes of address space for the process."""
CLIENTS = range(2**10, 2**20)
"""Client ids of restored content. Yjs draws client ids from 32 bits. Of two insertions at the same place, that of the
lower id comes first. Therefore text that an offline client adds at the end of a deleted part comes after the restored
part."""


def main() -> None:
    """Run the task that is named on the command line."""
    ignore_signals()
    lower_priority()
    be_killed_first()
    keep_large_blocks_apart()
    limit_memory(MEMORY)
    try:
        parts = read(sys.stdin.buffer, lambda _: None)
        result = make(parts) if sys.argv[1] == "make" else restore(*parts)
    except EOFError:
        sys.exit("the server has ended")
    except MemoryError:
        sys.exit(f"it takes more than {MEMORY // 2**20} MiB of memory")
    except (DamagedError, MalformedError, RestoreError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(result)


def make(updates: list[bytes]) -> bytes:
    """Return the content of a version, made from the updates of a document.

    Raises:
        DamagedError: the bytes are not updates.
    """
    segment, pending = finish(compact_records(updates))
    if pending is None:
        return pack(finish(segment.write()))
    document = Document()
    finish(document.load([pending], [segment]))
    return pack(finish(document.write()))


def restore(content: bytes, present: bytes) -> bytes:
    """Return the update that restores a version.

    Args:
        content: the content of the version.
        present: the content of a version of the present document.

    Raises:
        DamagedError: a content is not valid.
        RestoreError: the version cannot be restored exactly.
    """
    update = unpack(present)
    document = Document()
    finish(document.load([update]))
    client = secrets.choice(CLIENTS)
    while client in document:
        client = secrets.choice(CLIENTS)
    return restoring_update(update, unpack(content), client)


if __name__ == "__main__":
    main()
