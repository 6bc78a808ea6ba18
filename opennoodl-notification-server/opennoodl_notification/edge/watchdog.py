"""The watchdog: ends a process whose event loop is stuck, so that Docker, systemd or a host starts it again.

The timer is a thread of Python's `faulthandler`, which needs neither the event loop nor the GIL. It prints where all
threads are, and the process exits with 1. All acknowledged data is stored by then.

A machine with too much work delays the event loop as well, and a restart would only disconnect the clients. So the
time in which the event loop was ready to run and had no CPU does not count.
"""

import asyncio
import faulthandler
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

TIMEOUT = 60.0
"""Seconds without a turn of the event loop, and not without a CPU, after which the process ends."""
INTERVAL = 10.0
"""Seconds between two signs of life, and between two looks at the time without a CPU."""
LEAST = 1.0
"""Seconds without a CPU that put off the end."""
SCHEDULED = Path("/proc/self/schedstat")
"""Linux's file with nanoseconds of the main thread: on a CPU, and waiting for one."""


async def watch() -> None:
    """Put off the end of the process again and again, until this is cancelled."""
    watchdog = Watchdog()
    watchdog.start()
    try:
        while True:
            watchdog.put_off()
            await asyncio.sleep(INTERVAL)
    finally:
        watchdog.stop()


class Watchdog(Thread):
    """The thread that looks how long the event loop, in the main thread, has waited for a CPU."""

    def __init__(self) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._stopped = Event()
        self._lock = Lock()
        self._alive = self._waited = self._granted = 0.0

    def put_off(self) -> None:
        """Give the event loop the whole time again."""
        with self._lock:
            self._alive, self._waited, self._granted = monotonic(), waited_for_cpu(), 0.0
            faulthandler.dump_traceback_later(TIMEOUT, exit=True)

    def run(self) -> None:
        """Look again and again, until the watchdog is stopped."""
        while not self._stopped.wait(INTERVAL):
            self.look()

    def look(self) -> None:
        """Give the event loop the time in which it had no CPU."""
        with self._lock:
            waited = waited_for_cpu() - self._waited
            if waited >= self._granted + LEAST:
                self._granted = waited
                left = TIMEOUT + waited - (monotonic() - self._alive)
                faulthandler.dump_traceback_later(max(left, LEAST), exit=True)

    def stop(self) -> None:
        """End the thread, and let the process live."""
        self._stopped.set()
        self.join()
        faulthandler.cancel_dump_traceback_later()


def waited_for_cpu() -> float:
    """Return for how many seconds the main thread has been ready to run without a CPU; 0 if the system does not say."""
    try:
        return int(SCHEDULED.read_text().split()[1]) / 1e9
    except OSError:  # no Linux, or one without these statistics
        return 0.0
