"""The compaction process: ``python -m opennoodl_sync.workers.compaction_process`` does what ``compactor`` asks of it.

A job is a message with the updates of a document. Its answer has an error text, which is empty if there was none, then
the compacted update, its index, and the update with what waits, if anything does.

The process imports nothing but the engine, so it starts fast and takes little memory. It ends when its standard input
does, also in the middle of a job: so it does not outlive its server, however that ended.
"""

import os
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from ..yjs.compaction import compact_records
from ..yjs.document import DamagedError
from ..yjs.lib0 import finish
from ..yjs.segment_index import write_index
from .limits import be_killed_first, ignore_signals, limit_memory, lower_priority
from .messages import Part, encode, read

MEMORY = 256 * 2**20
"""Bytes of address space that the process takes without a job."""
MEMORY_FACTOR = 24
"""Bytes of address space that a job may take for each of its bytes."""

Jobs = SimpleQueue[list[bytes]]


def main() -> None:
    """Do jobs until standard input ends."""
    ignore_signals()
    lower_priority()
    be_killed_first()
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
    """Read jobs until there are no more, then end the process, whatever it is at."""
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
    except Exception as error:  # the server reports it
        return [[f"{type(error).__name__}: {error}".encode()]]


def _handed_over(records: list[bytes]) -> Iterator[bytes]:
    """Yield the records and forget them: what was read needs them no more."""
    records.reverse()
    while records:
        yield records.pop()


if __name__ == "__main__":
    main()
