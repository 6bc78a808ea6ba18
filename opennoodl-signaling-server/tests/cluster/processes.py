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
        redis_url: the URL of the shared Redis.
        lease: the time of a lease, in seconds.
        settings: other environment variables.
    """

    def __init__(self, redis_url: str, lease: float, **settings: str) -> None:
        self._held, self.port = held_port()
        self._command = [sys.executable, str(Path(__file__).with_name("run_instance.py")), str(lease)]
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
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
        """The URL for clients."""
        return f"ws://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.PIPE)

    async def listening(self) -> None:
        """Wait until it answers ``/health``. Start it again if Redis was too slow for its start."""
        await until(self._answers, PROCESS_TIMEOUT)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            code = self._finish()
            assert (code, "cannot use Redis" in self._logged) == (1, True), self._logged
            self.start()
        try:
            return (await request(self.port, "GET /health")).status == 200
        except OSError:
            return False

    def free(self) -> None:
        """Kill it, and release its port."""
        self.kill()
        self._held.close()

    def kill(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._finish()

    def end(self) -> str:
        """Drain it; return the errors that it and its killed predecessors have logged."""
        assert self._process is not None
        self.resume()
        self._process.terminate()
        code = self._finish()
        assert code == 0, f"exit code {code}: {self._logged}"
        return self._logged

    def _finish(self) -> int:
        """Wait for its end, and keep its log; return its exit code."""
        assert self._process is not None
        _, text = self._process.communicate(timeout=PROCESS_TIMEOUT)
        self._logged += text.decode()
        code = self._process.returncode
        self._process = None
        return code

    def stop(self) -> None:
        """Pause it with SIGSTOP until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        """Continue it after `stop`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self.stopped = False
