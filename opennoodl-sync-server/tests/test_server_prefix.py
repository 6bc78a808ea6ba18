"""`PATH_PREFIX`: a server behind a proxy that passes the path of the request on as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from opennoodl_sync.edge.settings import SettingError
from opennoodl_sync.settings import Settings
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .client import running
from .edge.issuer import SECRET, signed

pytestmark = pytest.mark.slow


async def test_room_behind_prefix(tmp_path: Path) -> None:
    """The name of a room begins behind the prefix, and nothing of it is changed."""
    async with running(tmp_path, path_prefix="/a/sync") as server:
        await server.join("a/sync/team%2F1//x", 1)
        assert list(server.app.rooms.rooms) == ["team%2F1//x"]


@pytest.mark.parametrize("path", ["x", "sync", "synced/x", "Sync/x", "/sync/x", "%73ync/x"])
async def test_path_without_prefix(tmp_path: Path, path: str) -> None:
    """A handshake on a path that does not begin with the prefix is refused with a sentence, and makes no room."""
    async with running(tmp_path, path_prefix="/sync") as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url(path))
        assert refused.value.response.status_code == 404
        text = b"The path does not begin with the PATH_PREFIX of this server: /sync/<room>.\n"
        assert refused.value.response.body == text
        assert server.app.rooms.rooms == {}


async def test_prefix_without_room(tmp_path: Path) -> None:
    """The prefix alone names no room."""
    async with running(tmp_path, path_prefix="/sync") as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url("sync/"))
        assert b"The path names the room" in refused.value.response.body


async def test_token_names_room_without_prefix(tmp_path: Path) -> None:
    """The rooms of a token are compared with the name of the room, without the prefix."""
    async with running(tmp_path, path_prefix="/sync", auth="jwt", auth_secret=SECRET) as server:
        client = await server.join(f"sync/a?token={signed(rooms=['a'])}", 1)
        assert client.synced


@pytest.mark.parametrize("prefix", ["sync", "/", "/sync/", "/sync?", "/a b", "/a//b", "/%73ync", "/sync\n"])
def test_an_invalid_prefix_stops_the_start(prefix: str) -> None:
    """A setting that is no path stops the start with one line."""
    with pytest.raises(SettingError) as refused:
        Settings(path_prefix=prefix)
    expected = f"PATH_PREFIX is {prefix!r}; accepted is a path such as /sync, without a slash at its end"
    assert str(refused.value) == expected
