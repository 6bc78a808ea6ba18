"""Starts the servers of the Procfile: ``make up``. With INSTANCES=2, those of Procfile.instances, two of each server.

This is ``honcho start`` with five differences. A server that ends is started again. A stop has more time. A setting in
``.env`` may be for one server alone (``SYNC_RATE_LIMIT``). A stop by a signal is no error. A terminal that is closed
stops the servers.
"""

import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from time import monotonic

import honcho.manager  # type: ignore[import-untyped]
from honcho import environ
from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer  # type: ignore[import-untyped]
from honcho.process import Process  # type: ignore[import-untyped]

CANNOT_START = 1
"""Exit code of a server that cannot start: a setting is invalid, or the port is in use."""
START = 10.0
"""Seconds within which that shows."""
DELAYS = (1, 2, 5, 10, 30)
"""Seconds until a server starts again: after its first failure, its second one, and so on."""
KILL = 20
"""Seconds after which what has not stopped is killed: a server takes ten at most, and PostgreSQL stops after that."""
STEADY = 60.0
"""Seconds after which earlier failures of a server no longer count."""
SERVERS = ("signaling", "sync", "notification")
"""In order of their ports, which begin with FIRST_PORT; the ports of the playground and of Redis follow."""
MOST = 9
"""Instances of each server at most: the ports of instance 1 are 10 more than those of the balancer, and so on."""


def settings(name: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of one server: ``SYNC_RATE_LIMIT`` is the ``RATE_LIMIT`` of ``sync``."""
    prefix = f"{name.upper()}_"
    own = {key.removeprefix(prefix): value for key, value in variables.items() if key.startswith(prefix)}
    return {**variables, **own}


def single(variables: dict[str, str], names: Iterable[str], first_port: int) -> dict[str, dict[str, str]]:
    """Return the environments of one server of each kind and of the playground, by name.

    Args:
        variables: the settings.
        names: of the processes.
        first_port: that of signaling.
    """
    ports = {name: {"PORT": str(first_port + index)} for index, name in enumerate((*SERVERS, "playground"))}
    return {name: {**settings(name, variables), **ports.get(name, {})} for name in names}


def several(variables: dict[str, str], instances: int, first_port: int) -> dict[str, dict[str, str]]:
    """Return the environments of the processes that several instances need, by name; those of instances have a number.

    Args:
        variables: the settings.
        instances: of each server.
        first_port: that of the balancer for signaling.
    """
    common = {
        "HOST": "127.0.0.1",
        "TRUSTED_PROXIES": "127.0.0.1",
        "CLUSTER_SECRET": token_hex(32),
        "REDIS_PORT": str(first_port + 4),
        **variables,
    }
    public = {name: first_port + index for index, name in enumerate(SERVERS)}
    balancer = dict(common)
    found = {"postgresql": common, "redis": common, "balancer": balancer}
    for name, port in public.items():
        own = [port + 10 * number for number in range(1, instances + 1)]
        balancer[f"{name.upper()}_PORT"] = str(port)
        balancer[name.upper()] = " ".join(f"127.0.0.1:{each}" for each in own)
        for number, each in enumerate(own, 1):
            found[f"{name}.{number}"] = {**settings(name, common), "PORT": str(each)}
    found["playground"] = {**variables, "PORT": str(first_port + 3)}
    return found


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


def _number(variables: dict[str, str], name: str, default: int, most: int) -> int:
    """Return a setting that is a number.

    Raises:
        ValueError: it is none, or not among those accepted.
    """
    text = variables.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ValueError(f"{name} must be a whole number from 1 to {most}, not {text!r}.")
    return int(text)


def main(directory: Path) -> int:
    """Run the servers until a signal stops them, which returns 0, or until one of them cannot start."""
    file = directory / ".env"
    try:
        variables = {**os.environ, **environ.parse(file.read_text(encoding="utf-8") if file.exists() else "")}
    except (OSError, UnicodeDecodeError) as error:
        print(f"{file} cannot be read: {error}", file=sys.stderr)
        return 1
    playground = variables.get("PLAYGROUND", "on")
    if playground not in {"on", "off"}:
        print(f"PLAYGROUND must be on or off, not {playground!r}.", file=sys.stderr)
        return 1
    try:
        instances = _number(variables, "INSTANCES", 1, MOST)
        first_port = _number(variables, "FIRST_PORT", 4444, 65_000)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    honcho.manager.KILL_WAIT = KILL
    manager = RestartingManager(Printer(Terminal()))
    file = directory / ("Procfile" if instances == 1 else "Procfile.instances")
    commands = environ.parse_procfile(file.read_text()).processes
    if instances > 1:
        environments = several(variables, instances, first_port)
    else:
        environments = single(variables, commands, first_port)
    for name, env in environments.items():
        if name != "playground" or playground == "on":
            manager.add_process(name, commands[name.partition(".")[0]], env=env, cwd=directory)
    for told in SIGNALS.values():
        told["rc"] = 0
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else whoever began this wants it to go on: nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    manager.loop()
    return int(manager.returncode)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # what reads a server's output has to outlive the terminal as well
    sys.exit(main(Path(__file__).parent))
