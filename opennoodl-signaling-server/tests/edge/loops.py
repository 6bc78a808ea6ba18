"""The event loops that tests run on."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}

try:
    import uvloop
except ImportError:  # not on this platform
    pass
else:

    class Loop(uvloop.Loop):
        """uvloop, whose `close` also returns if a test has left something open.

        uvloop warns of each open handle, and then closes it. If the warning is raised as an error, the handle stays
        open, and `close` waits for it without end: a test that fails before it has closed a connection would hang.
        """

        def close(self) -> None:
            """Close all open handles, then warn about them."""
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                super().close()
            for each in caught:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    LOOPS["uvloop"] = Loop
