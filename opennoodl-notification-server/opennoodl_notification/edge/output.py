"""Output: what commands print, for as long as somebody reads it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def output() -> Iterator[None]:
    """Let a command print; whoever reads that may go before its end, as ``head`` does, which is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try to write the rest as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
