"""pgbouncer in front of a database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest

from .harness import TIMEOUT

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""The program, from Debian's package of the same name."""


@contextmanager
def pooler(at: str, size: int) -> Iterator[str]:
    """Run a pgbouncer in transaction mode; yield its URL.

    Args:
        at: the URL of the database, with the directory of its socket.
        size: the number of its connections to the database.
    """
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    socket = at.partition("?host=")[2]
    with TemporaryDirectory(prefix="pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o777)  # pgbouncer runs as the owner of the database's socket
        (directory / "pgbouncer.ini").write_text(
            f"[databases]\npostgres = host={socket} user=postgres\n"
            f"[pgbouncer]\nunix_socket_dir = {name}\nauth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {size}\n"
        )
        user = ["-u", Path(socket).owner()] if os.getuid() == 0 else []
        process = subprocess.Popen([PGBOUNCER, "-q", *user, str(directory / "pgbouncer.ini")])
        try:
            deadline = monotonic() + TIMEOUT
            while not (directory / ".s.PGSQL.6432").exists():
                assert process.poll() is None, "pgbouncer ended"
                assert monotonic() < deadline, "pgbouncer does not listen"
                sleep(0.01)
            yield f"postgresql://postgres@/postgres?host={name}&port=6432"
        finally:
            process.terminate()
            process.wait(TIMEOUT)
