"""Starts what the Procfile says: ``make up``.

As ``honcho start``, but a setting in ``.env`` may be for one server alone (``SYNC_RATE_LIMIT``), to be told to stop is
no error, and a terminal that is closed stops the servers, too.
"""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from honcho import environ  # type: ignore[import-untyped]
from honcho.manager import SIGNALS, Manager  # type: ignore[import-untyped]
from honcho.printer import Printer  # type: ignore[import-untyped]


def settings(name: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of one server: ``SYNC_RATE_LIMIT`` is the ``RATE_LIMIT`` of ``sync``."""
    prefix = f"{name.upper()}_"
    own = {key.removeprefix(prefix): value for key, value in variables.items() if key.startswith(prefix)}
    return {**variables, **own}


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
    """Run the servers until one of them ends or somebody says so; return 0 in the latter case."""
    file = directory / ".env"
    variables = {**os.environ, **environ.parse(file.read_text() if file.exists() else "")}
    playground = variables.get("PLAYGROUND", "on")
    if playground not in {"on", "off"}:
        print(f"PLAYGROUND must be on or off, not {playground!r}.", file=sys.stderr)
        return 1
    manager = Manager(Printer(Terminal()))
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
