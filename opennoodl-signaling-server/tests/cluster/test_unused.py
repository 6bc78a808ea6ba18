"""A server without `REDIS_URL`: nothing of the cluster is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CREATE = """
import sys
from opennoodl_signaling.server import create
from opennoodl_signaling.settings import Settings
create(Settings())
print(*(name for name in sys.modules if name == "redis" or name.startswith("opennoodl_signaling.cluster")))
"""


@pytest.mark.slow
@pytest.mark.slow
def test_memory_loads_no_cluster() -> None:
    """A server that keeps everything in memory loads neither redis nor the modules that use it."""
    command = [sys.executable, "-c", CREATE]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
