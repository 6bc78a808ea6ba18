"""The process that makes and restores versions: ``python -m opennoodl_sync.workers.version_process TASK``.

It reads a message from standard input and writes the result to standard output. If it fails, the last line on standard
error says why. It imports nothing but the engine.

    make     the updates of a document: the content of a version of it
    restore  the contents of a version, and of one that the document is now: the update that restores the version
"""

import secrets
import sys

from ..versions.content import pack, unpack
from ..yjs.compaction import compact_records
from ..yjs.document import DamagedError, Document
from ..yjs.lib0 import MalformedError, finish
from ..yjs.restore import RestoreError, restoring_update
from .limits import be_killed_first, ignore_signals, limit_memory, lower_priority
from .messages import read

MEMORY = 2 * 2**30
"""Bytes of address space that the process may take."""
CLIENTS = range(2**10, 2**20)
"""Clients that restore. Yjs draws its clients from 32 bits. Of two clients that insert at the same place, the lower one
comes first. So what an offline client has typed at the end of a deleted piece comes behind the restored piece."""


def main() -> None:
    """Do one task."""
    ignore_signals()
    lower_priority()
    be_killed_first()
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
    """Return the content of a version.

    Raises:
        DamagedError: an update is none.
    """
    segment, pending = finish(compact_records(updates))
    if pending is None:
        return pack(finish(segment.write()))
    document = Document()
    finish(document.load([pending], segment))
    return pack(finish(document.write()))


def restore(content: bytes, present: bytes) -> bytes:
    """Return the update that restores a version.

    Raises:
        DamagedError: a content is none.
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
