"""The watchdog: ends a process whose event loop is stuck, so that Docker, systemd or a host starts it again.

The timer is a thread of Python's `faulthandler`, which needs neither the event loop nor the GIL. It prints where all
threads are, and the process exits with 1. What was acknowledged is stored by then.
"""

import asyncio
import faulthandler

TIMEOUT = 60.0
"""Seconds without a turn of the event loop after which the process ends."""
INTERVAL = 10.0
"""Seconds between two signs of life."""


async def watch() -> None:
    """Put off the end of the process again and again, until this is cancelled."""
    try:
        while True:
            faulthandler.dump_traceback_later(TIMEOUT, exit=True)
            await asyncio.sleep(INTERVAL)
    finally:
        faulthandler.cancel_dump_traceback_later()
