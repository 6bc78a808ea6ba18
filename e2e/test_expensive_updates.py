"""Acknowledged updates can be loaded and exported, however expensive they are to integrate."""

from __future__ import annotations

from pathlib import Path

from expensive_updates import SHAPES
from harness import Client, StartClient, StartServer
from test_roundtrip import AT_ONCE, PATIENCE, operator

SIZE = 30_000
"""Bytes of an update."""
SIZES = {"one-place-mixed": 260_000, "nested": 8_000}
"""More, where Yjs is quick and yrs once took 41 s; fewer, where the comparison goes as deep as the document."""
EXPORTED = ("one-place-mixed", "nested", "holes")


async def add_all(clients: Client, folder: Path) -> None:
    """Make a document of each shape."""
    for name, shape in SHAPES.items():
        file = folder / name
        file.write_bytes(shape.make(SIZES.get(name, SIZE), 0))
        await clients.call("add", name=name, paths=[str(file)])


async def test_acknowledged_updates_of_every_shape_are_loaded_and_exported(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """Updates of every shape are acknowledged and passed on, loaded after `kill -9`, and exported."""
    clients, sync = await client("roundtrip"), await server("sync", **AT_ONCE)
    await add_all(clients, tmp_path)
    assert await clients.call("write", PATIENCE, url=sync.url) == {}
    await sync.kill()
    await sync.start()
    assert await clients.call("read", PATIENCE, url=sync.url) == {}
    await sync.stop()
    for name in EXPORTED:
        file = tmp_path / f"exported-{name}"
        file.write_bytes(await operator(tmp_path / "sync", "export", name))
        assert await clients.call("check", PATIENCE, name=name, path=str(file)) is None
