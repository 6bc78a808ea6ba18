"""How long users wait for each other: a WebRTC connection 3 s, a settled document 5 s, a cursor 100 ms.

A busy machine delays clients as well as servers, so a usual run allows `BUSY` times as long. `--idle-machine` allows no
more than was promised, and needs an idle machine; with `-s` it shows what was measured.
"""

from __future__ import annotations

import pytest
from harness import StartClient, StartServer

CONNECTION, SETTLED, CURSOR = 3000.0, 5000.0, 100.0
"""Milliseconds that are promised."""
BUSY = 100
SIZES = pytest.mark.parametrize("participants", [2, 5, 10])


@pytest.fixture
def factor(request: pytest.FixtureRequest) -> int:
    """Return how many times as long as promised users may wait in this run."""
    return 1 if request.config.getoption("--idle-machine") else BUSY


@SIZES
async def test_newcomer_is_connected_to_everybody(
    server: StartServer, client: StartClient, participants: int, factor: int
) -> None:
    """Each participant who joins has WebRTC channels to all who came before within the promised time."""
    driver, signaling = await client("waiting_times"), await server("signaling")
    waits = await driver.call("arrivals", url=signaling.url, participants=participants)
    print(f"{participants} participants, one after the other: channels open after {max(waits):.0f} ms at most")
    assert len(waits) == participants
    assert max(waits) <= CONNECTION * factor


@pytest.mark.parametrize("participants", [2, 5])
async def test_everybody_is_connected_to_everybody(
    server: StartServer, client: StartClient, participants: int, factor: int
) -> None:
    """Participants who join at the same moment have WebRTC channels to all others within the promised time.

    Ten would have 90 ends of connections, with which one process is busy for seconds, whatever the server does.
    """
    driver, signaling = await client("waiting_times"), await server("signaling")
    waits = await driver.call("webrtc", url=signaling.url, participants=participants)
    print(f"{participants} participants at the same moment: channels open after {max(waits):.0f} ms")
    assert len(waits) == participants
    assert max(waits) <= CONNECTION * factor


@SIZES
async def test_document_settles_and_cursors_are_seen(
    server: StartServer, client: StartClient, participants: int, factor: int
) -> None:
    """All have the same document after all wrote at once, and all see each movement of a cursor, within these times."""
    driver, sync = await client("waiting_times"), await server("sync")
    found = await driver.call("sync", url=sync.url, participants=participants)
    cursors = sorted(found["cursors"])
    print(
        f"{participants} participants: settled after {found['settled']:.0f} ms; "
        f"cursors median {cursors[len(cursors) // 2]:.1f} ms, longest {cursors[-1]:.1f} ms"
    )
    assert found["same"]
    assert len(cursors) == 20 * (participants - 1)
    assert found["settled"] <= SETTLED * factor
    assert cursors[-1] <= CURSOR * factor
