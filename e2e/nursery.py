"""Forks the servers from a process that has imported them: most of what the start of a Python process takes is imports.

What is forked is otherwise a process like any other: its environment, directory, output and end are its own.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

PROGRAMS = [f"opennoodl_{kind}.__main__" for kind in ("signaling", "sync", "notification")]


class Forked:
    """A process, with what is used here of `asyncio.subprocess.Process`.

    Attributes:
        pid: the number that the operating system knows it by.
        stdout: what it writes, also to standard error.
        returncode: how it has ended; None if that is not known yet.
    """

    stdin = None

    def __init__(
        self, pid: int, stdout: asyncio.StreamReader, reports: asyncio.StreamReader, orders: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._reports = reports
        self._orders = orders

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended, and return how."""
        if self.returncode is None:
            self.returncode = int(await self._reports.readline())
            self._orders.close()
        return self.returncode


async def fork(program: str, directory: Path, environment: Mapping[str, str], longest_line: int) -> Forked:
    """Run lines of Python in a new process, whose output has lines of at most so many bytes."""
    read, write = os.pipe()
    own, other = socket.socketpair()
    socket.send_fds(nursery(), [b"."], [write, other.fileno()])
    os.close(write)
    other.close()
    reports, orders = await asyncio.open_connection(sock=own)
    orders.write(json.dumps([program, str(directory), dict(environment)]).encode() + b"\n")
    stdout = asyncio.StreamReader(longest_line)
    protocol = asyncio.StreamReaderProtocol(stdout)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(read))
    return Forked(int(await reports.readline()), stdout, reports, orders)


@cache
def nursery() -> socket.socket:
    """Start the process that forks others, if there is none; it ends with this one. Return where it takes orders."""
    own, other = socket.socketpair()
    process = subprocess.Popen([sys.executable, __file__], stdin=other.fileno(), stdout=subprocess.DEVNULL)
    other.close()

    def end() -> None:
        own.close()
        process.wait()

    atexit.register(end)
    return own


def main() -> None:
    """Fork a process for each order; in that process, run what was ordered."""
    for name in PROGRAMS:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end the servers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    orders = socket.socket(fileno=0)
    while files := socket.recv_fds(orders, 1, 2)[1]:
        if os.fork() == 0:
            orders.close()
            exec(_ordered(*files), {"__name__": "__main__"})  # noqa: S102
            return
        for file in files:
            os.close(file)


def _ordered(output: int, reports: int) -> str:
    """Take an order, fork a process and return, in that process, its program; here, report how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=reports) as connection, connection.makefile("rw") as lines:
        program, directory, environment = json.loads(lines.readline())
        if forked := os.fork():
            os.close(output)
            print(forked, file=lines, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]), file=lines, flush=True)
            os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    return str(program)


if __name__ == "__main__":
    main()
