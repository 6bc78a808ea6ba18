"""Forks the servers from a process that has imported them, since imports take most of the start of a Python process.

A forked process has its own environment, directory, output and exit code.
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
    """A forked process, with the part of `asyncio.subprocess.Process` that is used here.

    Attributes:
        pid: the process id.
        stdout: its standard output and standard error.
        returncode: its exit code; None before it is known.
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
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end of the process; return its exit code."""
        if self.returncode is None:
            self.returncode = int(await self._reports.readline())
            self._orders.close()
        return self.returncode


async def fork(program: str, directory: Path, environment: Mapping[str, str], longest_line: int) -> Forked:
    """Run a Python program in a new process; a line of its output may have `longest_line` bytes."""
    read, write = os.pipe()
    own, other = socket.socketpair()
    socket.send_fds(_fork_server(), [b"."], [write, other.fileno()])
    os.close(write)
    other.close()
    reports, orders = await asyncio.open_connection(sock=own)
    orders.write(json.dumps([program, str(directory), dict(environment)]).encode() + b"\n")
    stdout = asyncio.StreamReader(longest_line)
    protocol = asyncio.StreamReaderProtocol(stdout)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(read))
    return Forked(int(await reports.readline()), stdout, reports, orders)


@cache
def _fork_server() -> socket.socket:
    """Start the process that forks, if it does not run; return the socket for orders. It ends with this process."""
    own, other = socket.socketpair()
    process = subprocess.Popen([sys.executable, __file__], stdin=other.fileno(), stdout=subprocess.DEVNULL)
    other.close()

    def end() -> None:
        own.close()
        process.wait()

    atexit.register(end)
    return own


def main() -> None:
    """Fork a process for each order, and run the ordered program in it."""
    for name in PROGRAMS:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the tests end the servers
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
    """Read an order and fork. The new process returns the program; the old one reports the exit code of the new one."""
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
