"""The machine: its shape, its cores, and what a process has used of it. Linux only: all of it is in ``/proc``."""

import os
import platform
import re
import resource
import socket
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Resident memory of a process, in MiB."""

    now: float
    peak: float


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that all threads of a process have used, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def exact_cpu_seconds(pid: int) -> float:
    """Return the same of the threads that a process has now, to the nanosecond and not to a clock tick."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def idle_seconds() -> float:
    """Return the time that all cores together have been idle, or have waited for disks."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / TICKS


def memory(pid: int) -> Memory:
    """Return what a process has in memory now, and at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    return Memory(int(kib["VmRSS"]) / 1024, int(kib["VmHWM"]) / 1024)


class Cores(NamedTuple):
    """Which core serves and which one loads."""

    server: int
    generator: int

    @property
    def shared(self) -> bool:
        """Whether the machine has no other one for the load."""
        return self.server == self.generator


def cores() -> Cores:
    """Choose one core for the server and another one for the load, if there is another one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1 % len(usable)])


def held_port() -> tuple[socket.socket, int]:
    """Return a free port, and a socket that keeps it from others; a server with SO_REUSEADDR may listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]


def raise_file_limit() -> None:
    """Allow as many open sockets as this user may have; child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_model() -> str:
    """Return the processor's name."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def short_cpu_model() -> str:
    """Return the processor's name as a part of a file's name: ``amd-epyc``, ``intel-xeon-platinum-8370c``."""
    name = re.sub(r"\((R|TM|r|tm)\)|@.*|\b(CPU|Processor|\d+-Core)\b", "", cpu_model())
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def shape() -> str:
    """Return what this machine is, in one line."""
    kib = int(re.findall(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])
    gib = round(kib / 2**20)
    return f"{os.cpu_count()} cores of {cpu_model()}, {gib} GiB of memory, Linux {platform.release().split('-')[0]}"
