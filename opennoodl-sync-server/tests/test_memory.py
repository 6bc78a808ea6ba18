"""What is free goes back to the operating system."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from opennoodl_sync.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries do as they like")
def test_give_back() -> None:
    """Much that was small is given back although something above it is still in use."""

    def used() -> int:
        return int(re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[0])

    much = [bytes(1000) for _ in range(100_000)]
    last = bytes(1000)
    del much
    before = used()
    give_back()
    assert used() < before - 50_000
    assert last == bytes(1000)
