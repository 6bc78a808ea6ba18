"""The images and docker-compose.yml, in a real Docker: they start, come back after a kill, keep their data and stop.

They take minutes, the ports 4444 to 4447 and a Docker on this machine, and the right to kill its processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from harness import HERE
from pycrdt import Doc, Text, create_sync_message, create_update_message, handle_sync_message
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.skipif(
    os.environ.get("OPENNOODL_CONTAINERS") != "1", reason="OPENNOODL_CONTAINERS=1 runs them, where Docker runs"
)

SERVERS = ("signaling", "sync", "notification")
GRACE = 10
PATIENCE = 60


def run(*argv: str) -> str:
    """Run a command at the root of the repository and return what it prints."""
    done = subprocess.run(argv, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


class Stack:
    """The containers of docker-compose.yml, under a project name of their own."""

    def __init__(self) -> None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        self._compose = [*(["docker", "compose"] if plugin else ["docker-compose"]), "-p", "opennoodl-e2e"]

    def compose(self, *arguments: str) -> str:
        """Run docker-compose, of whichever generation is installed."""
        return run(*self._compose, *arguments)

    def inspect(self, server: str) -> dict[str, Any]:
        """Return what Docker knows of a server's container, running or not."""
        container = run(
            "docker", "ps", "-aq", "--filter", "label=com.docker.compose.project=opennoodl-e2e",
            "--filter", f"label=com.docker.compose.service={server}",
        ).strip()  # fmt: skip
        known: dict[str, Any] = json.loads(run("docker", "inspect", container))[0]
        return known

    def up(self) -> None:
        """Start what does not run, and wait until all are healthy."""
        self.compose("up", "--detach")
        for server in SERVERS:
            self.wait_healthy(server)

    def wait_healthy(self, server: str, restarts: int = 0) -> None:
        """Wait until a server has been restarted at least so often and its health check passes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            known = self.inspect(server)
            if known["RestartCount"] >= restarts and known["State"]["Health"]["Status"] == "healthy":
                return
            assert time.monotonic() < deadline, f"{server}: {known['State']}\n{self.compose('logs', server)}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def built() -> Iterator[Stack]:
    """Build the images, and remove every trace after the last test."""
    stack = Stack()
    stack.compose("build")
    yield stack
    stack.compose("down", "--volumes", "--rmi", "local")


@pytest.fixture
def stack(built: Stack) -> Stack:
    """All three servers, healthy."""
    built.up()
    return built


def receive(client: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next message of a kind."""
    while True:
        message: dict[str, Any] = json.loads(client.recv(timeout=10))
        if message["type"] == kind:
            return message


def peers(room: str, user: str) -> list[str]:
    """Join a room and return who was there."""
    with connect("ws://localhost:4444") as client:
        client.send(json.dumps({"type": "join", "room": room, "peerId": user, "userId": user}))
        return [peer["userId"] for peer in receive(client, "joined")["peers"]]


def write(room: str, words: str) -> None:
    """Put words into a room's document, and return when another client has been shown them."""
    doc: Doc[Any] = Doc()
    doc["text"] = Text(words)
    with connect(f"ws://localhost:4445/{room}") as client:
        client.send(create_sync_message(doc))
        client.send(create_update_message(doc.get_update()))
        read(room, words)


def read(room: str, words: str) -> None:
    """Open a room's document and wait until it holds these words."""
    doc: Doc[Any] = Doc()
    text = doc.get("text", type=Text)
    with connect(f"ws://localhost:4445/{room}") as client:
        client.send(create_sync_message(doc))
        while str(text) != words:
            message = client.recv(timeout=10)
            assert isinstance(message, bytes)
            if message[0] == 0:
                reply = handle_sync_message(message[1:], doc)
                if reply is not None:
                    client.send(reply)


def notify(user: str) -> str:
    """Send a user a notification and return its id, which the server has promised to keep."""
    with connect("ws://localhost:4446") as client:
        client.send(json.dumps({"type": "authenticate", "userId": "somebody"}))
        message = {"type": "send-notification", "targetUserId": user, "notificationType": "mention", "data": {}}
        client.send(json.dumps(message))
        sent: str = receive(client, "notification-sent")["notificationId"]
        return sent


def inbox(user: str) -> list[str]:
    """Return the ids of a user's notifications."""
    with connect("ws://localhost:4446") as client:
        client.send(json.dumps({"type": "authenticate", "userId": user}))
        return [notification["id"] for notification in receive(client, "notifications")["notifications"]]


@pytest.mark.parametrize("server", SERVERS)
def test_servers_run_unprivileged_as_the_first_process(stack: Stack, server: str) -> None:
    """A server does not run as root, and is the process that Docker's signals reach."""
    assert stack.compose("exec", "-T", server, "id", "-u").strip() == "10001"
    assert "python" in stack.compose("exec", "-T", server, "cat", "/proc/1/cmdline").split("\0")


def test_killed_servers_restart_and_keep_their_data(stack: Stack) -> None:
    """Servers that are killed are started again and have forgotten nothing that they had promised to keep."""
    write("killed", "kept")
    notification = notify("killed")
    before = {server: stack.inspect(server) for server in SERVERS}
    for known in before.values():
        os.kill(known["State"]["Pid"], signal.SIGKILL)
    for server, known in before.items():
        stack.wait_healthy(server, known["RestartCount"] + 1)
    read("killed", "kept")
    assert inbox("killed") == [notification]
    assert peers("killed", "somebody") == []


def test_stuck_server_is_started_again(stack: Stack) -> None:
    """A server whose event loop makes no turn for a minute ends, and Docker starts it again; a pause is as long."""
    before = stack.inspect("sync")
    run("docker", "pause", before["Id"])
    time.sleep(65)
    run("docker", "unpause", before["Id"])
    stack.wait_healthy("sync", before["RestartCount"] + 1)
    assert "Timeout (0:01:00)!" in stack.compose("logs", "sync")


def test_commands_work_where_tls_is_required(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """With REQUIRE_WSS, `token` works in each container; `send` says why the address in the container is refused."""
    monkeypatch.setenv("AUTH", "jwt")
    monkeypatch.setenv("AUTH_SECRET", "s" * 40)
    monkeypatch.setenv("REQUIRE_WSS", "true")
    stack.up()
    for server in SERVERS:
        token = stack.compose("exec", "-T", server, "python", "-m", f"opennoodl_{server}", "token", "--user", "ann")
        assert token.count(".") == 2
    with pytest.raises(AssertionError, match="This server is reached over TLS only"):
        stack.compose(
            *("exec", "-T", "notification", "python", "-m", "opennoodl_notification", "send"),
            *("--from", "ann", "--to", "bob", "--data", "{}"),
        )
    monkeypatch.undo()
    stack.up()


def test_stopped_servers_end_within_the_grace_period(stack: Stack) -> None:
    """Servers that are told to stop end in order within the grace period, with a client on each."""
    with connect("ws://localhost:4444"), connect("ws://localhost:4445/stopped"), connect("ws://localhost:4446"):
        start = time.monotonic()
        stack.compose("stop")
        assert time.monotonic() - start < GRACE
    assert {server: stack.inspect(server)["State"]["ExitCode"] for server in SERVERS} == dict.fromkeys(SERVERS, 0)


def test_volumes_outlive_their_containers(stack: Stack) -> None:
    """The contents of the volumes outlive the containers."""
    write("removed", "kept")
    notification = notify("removed")
    stack.compose("down")
    stack.up()
    read("removed", "kept")
    assert inbox("removed") == [notification]


@pytest.mark.parametrize("user", ["10001", "0"])
def test_every_image_serves_on_the_given_port(stack: Stack, user: str) -> None:
    """Every image serves on the port that a platform gives it, also where that runs it as root."""
    images = [stack.inspect(server)["Image"] for server in SERVERS]
    containers = [run("docker", "run", "--detach", "-e", "PORT=8080", "--user", user, i).strip() for i in images]
    try:
        for container in containers:
            deadline = time.monotonic() + PATIENCE
            while json.loads(run("docker", "inspect", container))[0]["State"]["Health"]["Status"] != "healthy":
                assert time.monotonic() < deadline, run("docker", "logs", container)
                time.sleep(0.5)
    finally:
        run("docker", "rm", "--force", *containers)


def page(path: str) -> str:
    """Return a page of the playground, which may have just been started."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"http://localhost:4447{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except (URLError, ConnectionError):
            assert time.monotonic() < deadline, f"the playground does not answer: {run('docker', 'ps', '-a')}"
            time.sleep(0.5)


def test_playground_of_its_profile_names_the_servers(stack: Stack) -> None:
    """The profile starts the playground, whose page leads to the servers; it runs unprivileged and stops in order."""
    profile = ("--profile", "playground")
    stack.compose(*profile, "up", "--detach")
    try:
        assert "OpenNoodl playground" in page("/")
        assert "peer-joined" in page("/protocol/signaling.html")
        addresses = json.loads(page("/config.json"))
        assert addresses == {server: f"ws://localhost:{4444 + number}" for number, server in enumerate(SERVERS)}
        for address in addresses.values():
            with connect(f"{address}/room" if address.endswith(":4445") else address):
                pass
        assert stack.compose(*profile, "exec", "-T", "playground", "id", "-u").strip() == "10001"
        stack.compose(*profile, "stop", "playground")
        assert stack.inspect("playground")["State"]["ExitCode"] == 0
    finally:
        stack.compose(*profile, "rm", "--stop", "--force", "playground")
