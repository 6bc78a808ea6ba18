"""Free memory goes back to the operating system."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from opennoodl_sync.memory.allocator import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries do as they like")
def test_freed_memory_is_given_back() -> None:
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


PROGRAM = """
import re
from pathlib import Path
from opennoodl_sync.memory.allocator import keep_large_blocks_apart

def used():
    return int(re.findall(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])

keep_large_blocks_apart()
before = used()
bytearray(20_000_000)  # after this, glibc would keep all that is smaller
blocks = [bytearray(1_000_000) for _ in range(50)]
last = bytes(100_000)
del blocks
print(used() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries do as they like")
def test_large_blocks_are_given_back() -> None:
    """They are, although something above them is still in use, and one that was even larger was freed before."""
    kept = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert kept < 10_000
