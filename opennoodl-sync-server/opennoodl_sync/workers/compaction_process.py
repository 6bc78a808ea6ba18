"""The compaction process: ``python -m opennoodl_sync.workers.compaction_process`` does the jobs of ``compactor``.

A job is a message with the updates of a document. The answer's parts are: an error text, empty without an error; the
compacted update; its index; and an update with the pending structs, if there are any.

The process imports only the engine, so it starts fast and needs little memory. It exits at the end of its standard
input, also during a job. Therefore it always ends with its server.
"""

import os
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from ..memory.allocator import keep_large_blocks_apart
from ..yjs.compaction import compact_records
from ..yjs.document import DamagedError
from ..yjs.lib0 import finish
from ..yjs.segment_index import write_index
from .limits import be_killed_first, ignore_signals, limit_memory, lower_priority
from .messages import Part, encode, read

MEMORY = 256 * 2**20
"""Bytes of address space for the process without a job."""
MEMORY_FACTOR = 24
"""Bytes of address space for each byte of a job."""

Jobs = SimpleQueue[list[bytes]]


def main() -> None:
    """Do jobs until the end of standard input."""
    ignore_signals()
    lower_priority()
    be_killed_first()
    keep_large_blocks_apart()
    jobs: Jobs = SimpleQueue()
    threading.Thread(target=_receive, args=(jobs,), daemon=True).start()
    while True:
        answer = _work(jobs.get())
        try:
            for chunk in encode(answer):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(0)


def _receive(jobs: Jobs) -> None:
    """Read jobs until the end of standard input, then exit the process, also during a job."""
    try:
        while True:
            jobs.put(read(sys.stdin.buffer, lambda size: limit_memory(MEMORY + MEMORY_FACTOR * size)))
    except (EOFError, MemoryError) as error:
        os._exit(0 if isinstance(error, EOFError) else 1)


def _work(records: list[bytes]) -> list[Part]:
    try:
        segment, pending = finish(compact_records(_handed_over(records)))
        update = finish(segment.pieces())
        return [[b""], update, [finish(write_index(segment, update))], *([] if pending is None else [[pending]])]
    except DamagedError as error:
        return [[str(error).encode()]]
    except MemoryError:
        return [[b"it takes too much memory"]]
    except Exception as error:  # sent to the server, which reports it
        return [[f"{type(error).__name__}: {error}".encode()]]


def _handed_over(records: list[bytes]) -> Iterator[bytes]:
    """Yield each record and drop the reference to it, so that its memory can be freed."""
    records.reverse()
    while records:
        yield records.pop()


if __name__ == "__main__":
    main()
