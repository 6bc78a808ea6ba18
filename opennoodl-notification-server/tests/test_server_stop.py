"""The end of a server: what it was told is stored, and a disk that fails does not keep it."""

from __future__ import annotations

import asyncio
from errno import ENOSPC
from pathlib import Path

from .conftest import Device, Serve
from .harness import TIMEOUT, Gate, stored


async def test_stopping_server_stores_what_it_received(serve: Serve, device: Device, gate: Gate, file: Path) -> None:
    """A server that is told to stop first stores what has been sent to it."""
    service = await serve()
    client, other = await device(service, "s"), await device(service, "t")
    gate.shut()
    await client.send("invite", targetUserId="u", data={})
    await gate.holds()
    for sender in (client, other):
        for _ in range(10):
            await sender.send("invite", targetUserId="u", data={})
        assert await sender.waiting() == []
    stopping = asyncio.create_task(service.stop())
    assert await client.closed() == await other.closed() == 1001
    gate.open()
    async with asyncio.timeout(TIMEOUT):
        await stopping
    assert len(stored(file)) == 21


async def test_drain_of_a_failing_store(serve: Serve, device: Device, gate: Gate) -> None:
    """A store that fails while the server ends is not asked again for each batch: nobody waits for an answer."""
    service = await serve(sends_per_hour=0, send_bytes_per_hour=0)
    first, client = await device(service, "f"), await device(service, "s")
    gate.shut()
    await first.send("invite", targetUserId="u", data={})
    await gate.holds()
    for _ in range(300):  # more than a batch, and less than makes the queue pause its address
        await client.send("invite", targetUserId="u", data={})
    stopping = asyncio.create_task(service.app.stop())
    assert await client.waiting() == []
    gate.failure = OSError(ENOSPC, "No space left on device")
    gate.open()
    async with asyncio.timeout(TIMEOUT):
        await stopping
    assert gate.asked == 1
