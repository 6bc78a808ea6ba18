"""The tests' own event loop ends whatever a test has left open."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest

from .harness import TIMEOUT
from .loops import LOOPS


@pytest.mark.skipif("uvloop" not in LOOPS, reason="there is no uvloop on this platform")
def test_close_ends_with_a_server_left_open() -> None:
    """A server that is left open is an error, and is closed."""
    errors: list[str] = []

    def leave_open() -> None:
        loop = LOOPS["uvloop"]()
        loop.run_until_complete(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        try:
            loop.close()
        except ResourceWarning as error:
            errors.append(str(error))

    thread = Thread(target=leave_open, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert [error.split(" closed")[0] for error in errors] == ["unclosed resource <TCPServer"]
