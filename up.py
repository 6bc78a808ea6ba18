"""Starts the servers of the Procfile: ``make up``.

This is ``honcho start`` with four differences. A server that ends is started again. A setting in ``.env`` may be for
one server alone (``SYNC_RATE_LIMIT``). A stop by a signal is no error. A terminal that is closed stops the servers.
"""

import multiprocessing
import os
import select
import signal
import sys
from pathlib import Path
from time import monotonic

from honcho import environ  # type: ignore[import-untyped]
from honcho.manager import SIGNALS, Manager  # type: ignore[import-untyped]
from honcho.printer import Printer  # type: ignore[import-untyped]
from honcho.process import Process  # type: ignore[import-untyped]

CANNOT_START = 1
"""Exit code of a server that cannot start: a setting is invalid, or the port is in use."""
START = 10.0
"""Seconds within which that shows."""
DELAYS = (1, 2, 5, 10, 30)
"""Seconds until a server starts again: after its first failure, its second one, and so on."""
STEADY = 60.0
"""Seconds after which earlier failures of a server no longer count."""


def settings(name: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of one server: ``SYNC_RATE_LIMIT`` is the ``RATE_LIMIT`` of ``sync``."""
    prefix = f"{name.upper()}_"
    own = {key.removeprefix(prefix): value for key, value in variables.items() if key.startswith(prefix)}
    return {**variables, **own}


class Stop:
    """Tells processes that were forked that they shall stop; the death of one of them harms no other."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        """Tell them."""
        os.write(self._writer, b"x")

    def wait(self, seconds: float) -> bool:
        """Wait until they were told, but no longer than this; return whether they were."""
        return bool(select.select([self._reader], [], [], seconds)[0])


class Restarted(Process):  # type: ignore[misc]
    """A server that is started again when it ends, unless it could not even start the first time.

    Attributes:
        stop: tells when it shall end for good.
    """

    stop: Stop

    def run(self, events: object = None, ignore_signals: bool = False) -> None:
        """Keep the server running and pass its output on; called in a process of its own."""
        self._events = events
        if ignore_signals:  # it ends when the server has ended; a server would inherit SIG_IGN
            for number in SIGNALS:
                signal.signal(number, lambda *_: None)
        starts = failures = 0
        while True:
            began = monotonic()
            code = self._run_once()
            seconds = monotonic() - began
            starts += 1
            cannot_start = code == CANNOT_START and starts == 1 and seconds < START
            if cannot_start or self.stop.wait(0):
                break
            failures = 0 if seconds >= STEADY else failures
            delay = DELAYS[min(failures, len(DELAYS) - 1)]
            failures += 1
            self._send_message(f"ended with {code} after {seconds:.0f} s; it starts again in {delay} s\n".encode())
            if self.stop.wait(delay):
                break
        self._send_message({"returncode": code}, type="stop")

    def _run_once(self) -> int:
        """Run the server to its end; return its exit code, which is negative for a signal."""
        child = self._child_ctor(self.cmd, env=self.env, cwd=self.cwd)
        self._send_message({"pid": child.pid}, type="start")
        if self.stop.wait(0):  # and the signal may have gone to the former process
            os.killpg(child.pid, signal.SIGTERM)
        for line in child.stdout:
            self._send_message(line)
        code: int = child.wait()
        return code


class RestartingManager(Manager):  # type: ignore[misc]
    """Runs servers until it is told to stop, or one of them cannot start."""

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer)
        self._process_ctor = Restarted
        self._stop = Stop()

    def add_process(self, *args: object, **options: object) -> Restarted:
        """Add a server."""
        added: Restarted = super().add_process(*args, **options)
        added.stop = self._stop
        return added

    def terminate(self) -> None:
        """Stop all servers."""
        self._stop.set()
        super().terminate()


class Terminal:
    """Standard output, for as long as there is one: to write to what was closed must not keep the servers running."""

    def write(self, text: str) -> None:
        """Show something."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def flush(self) -> None:
        """All is shown already."""

    def isatty(self) -> bool:
        """Return whether colours can be seen."""
        return sys.stdout.isatty()


def main(directory: Path) -> int:
    """Run the servers until a signal stops them, which returns 0, or until one of them cannot start."""
    file = directory / ".env"
    variables = {**os.environ, **environ.parse(file.read_text() if file.exists() else "")}
    playground = variables.get("PLAYGROUND", "on")
    if playground not in {"on", "off"}:
        print(f"PLAYGROUND must be on or off, not {playground!r}.", file=sys.stderr)
        return 1
    manager = RestartingManager(Printer(Terminal()))
    for name, command in environ.parse_procfile((directory / "Procfile").read_text()).processes.items():
        if name != "playground" or playground == "on":
            manager.add_process(name, command, env=settings(name, variables), cwd=directory)
    for told in SIGNALS.values():
        told["rc"] = 0
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else whoever began this wants it to go on: nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    manager.loop()
    return int(manager.returncode)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # what reads a server's output has to outlive the terminal as well
    sys.exit(main(Path(__file__).parent))
