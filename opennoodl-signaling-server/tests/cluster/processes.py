"""Instances as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from ..edge.harness import PROCESS_TIMEOUT, request
from .ports import held_port
from .waiting import until


class Instance:
    """One server process.

    Args:
        redis_url: of the Redis that it shares.
        lease: seconds.
        settings: other environment variables.
    """

    def __init__(self, redis_url: str, lease: float, **settings: str) -> None:
        self._held, self.port = held_port()
        self._command = [sys.executable, str(Path(__file__).with_name("run_instance.py")), str(lease)]
        self._environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.port),
            "HOST": "127.0.0.1",
            "REDIS_URL": redis_url,
            "LOG_LEVEL": "error",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._logged = ""
        self.stopped = False

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.PIPE)

    async def listening(self) -> None:
        """Wait until it answers."""
        await until(self._answers, PROCESS_TIMEOUT)

    async def _answers(self) -> bool:
        try:
            return (await request(self.port, "GET /health")).status == 200
        except OSError:
            return False

    def free(self) -> None:
        """Kill it, and leave its port to others."""
        self.kill()
        self._held.close()

    def kill(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._finish()

    def end(self) -> str:
        """Drain it; return what it, and those before it that were killed, have logged above warnings."""
        assert self._process is not None
        self.resume()
        self._process.terminate()
        code = self._finish()
        assert code == 0, f"exit code {code}: {self._logged}"
        return self._logged

    def _finish(self) -> int:
        """Wait for its end, and keep what it has logged; return its exit code."""
        assert self._process is not None
        _, text = self._process.communicate(timeout=PROCESS_TIMEOUT)
        self._logged += text.decode()
        code = self._process.returncode
        self._process = None
        return code

    def stop(self) -> None:
        """Stop it, so that it does nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self.stopped = False
