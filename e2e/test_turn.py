"""TURN: a real coturn, set up as docs/turn.md says, relays for those whom the signaling server sends, and nobody else.

Debian and Ubuntu have it as the package `coturn`; what is tested here needs no more of it than its programs.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from harness import HERE, PATIENCE, Event, Process, Server, StartClient, StartServer
from reverse_proxies import free_port
from websockets.asyncio.client import connect

Ice: Any = import_module("opennoodl_signaling.ice").Ice
Settings: Any = import_module("opennoodl_signaling.settings").Settings

pytestmark = pytest.mark.skipif(
    not (shutil.which("turnserver") and shutil.which("turnutils_uclient")), reason="coturn is not installed"
)

PAGE = HERE.parent / "opennoodl-signaling-server" / "docs" / "turn.md"
SECRET = "no-secret-but-a-test's"
# What differs from a server on the internet: it is reached on this machine alone, and relays to peers on it.
LOCAL = ("listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "allow-loopback-peers", "no-tls", "no-dtls")


class Coturn(Process):
    """A TURN server with the configuration of docs/turn.md."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        block = re.search(r"```\n(realm=.*?)```", PAGE.read_text(), flags=re.DOTALL)
        assert block is not None
        local = [*LOCAL, f"listening-port={self.port}", f"pidfile={folder / 'pid'}", f"userdb={folder / 'turndb'}"]
        # With one thread it opens one listener, and is ready at once.
        local += ["relay-threads=0", "no-tcp"]
        file = folder / "turnserver.conf"
        file.write_text(block[1].replace("<secret>", SECRET) + "\n".join(local) + "\n")
        super().__init__("turnserver", ["turnserver", "-c", str(file), "--log-file=stdout", "--verbose"], folder)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        await self._start(stdin=asyncio.subprocess.DEVNULL)
        await self.says("UDP listener opened")

    async def says(self, *words: str) -> str:
        """Wait for a line of its log that has all these words; return it."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                while True:
                    for line in self.output:
                        if all(word in line for word in words):
                            return line
                    assert self.running, f"it ended before it said {words}:\n{self.tail()}"
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it did not say {words}:\n{self.tail()}") from None

    async def close(self) -> None:
        """End it after a test."""
        if self.running:
            await self._end(signal.SIGTERM, PATIENCE)


@pytest.fixture
async def coturn(tmp_path: Path) -> AsyncIterator[Coturn]:
    """Start a TURN server that ends with the test."""
    folder = tmp_path / "coturn"
    folder.mkdir()
    started = Coturn(folder)
    try:
        await started.start()
        yield started
    finally:
        await started.close()


def settings(coturn: Coturn) -> dict[str, str]:
    """Return the settings with which a signaling server sends peers to this TURN server."""
    url = f"turn:127.0.0.1:{coturn.port}?transport=udp"
    return {"STUN_URLS": f"stun:127.0.0.1:{coturn.port}", "TURN_URLS": url, "TURN_SECRET": SECRET}


async def given(server: Server, user: str) -> list[Event]:
    """Return the ICE servers that the signaling server gives to a user."""
    async with connect(server.url) as socket:
        await socket.send(json.dumps({"type": "join", "room": "r", "peerId": user, "userId": user}))
        joined: dict[str, Any] = json.loads(await socket.recv())
        servers: list[Event] = joined["iceServers"]
        return servers


def minted(coturn: Coturn, secret: str = SECRET, *, age: int = 0) -> tuple[str, str]:
    """Return username and credential as the signaling server mints them, or did so many seconds ago."""
    ice = Ice(Settings(turn_urls=settings(coturn)["TURN_URLS"], turn_secret=secret, turn_ttl=60))
    (server,) = ice.servers("ada", time.time() - age).ice_servers
    return server.username, server.credential


async def relay(coturn: Coturn, username: str, credential: str, *options: str) -> int:
    """Have coturn's own client open relays and send something through them; return its exit code."""
    client = await asyncio.create_subprocess_exec(
        "turnutils_uclient", "-c", "-n", "1", "-u", username, "-w", credential,
        "-p", str(coturn.port), *(options or ("-y",)), "127.0.0.1",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            return await client.wait()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()


async def test_credentials_of_the_signaling_server_open_a_relay(server: StartServer, coturn: Coturn) -> None:
    """Its own client sends through relays that it opened with the credentials from `joined`."""
    _, turn = await given(await server("signaling", **settings(coturn)), "Ada 'the first' Løvelace")
    assert await relay(coturn, turn["username"], turn["credential"]) == 0
    await coturn.says(f"user <{turn['username']}>", "ALLOCATE processed, success")


async def test_an_expired_credential_opens_no_relay(coturn: Coturn) -> None:
    """A credential that has just expired is answered 401."""
    username, credential = minted(coturn, age=61)
    assert await relay(coturn, username, credential) != 0
    await coturn.says(f"user <{username}>", "error 401")
    assert not any("ALLOCATE processed, success" in line for line in coturn.output)


async def test_a_credential_of_another_secret_opens_no_relay(coturn: Coturn) -> None:
    """A credential that was minted with another secret is answered 401."""
    username, credential = minted(coturn, "another-secret-of-ours")
    assert await relay(coturn, username, credential) != 0
    await coturn.says(f"user <{username}>", "error 401")
    assert not any("ALLOCATE processed, success" in line for line in coturn.output)


@pytest.mark.parametrize("peer", ["10.0.0.1", "169.254.169.254", "172.17.0.1", "192.168.1.1"])
async def test_a_relay_does_not_lead_into_private_networks(coturn: Coturn, peer: str) -> None:
    """With the configuration of docs/turn.md, good credentials open no way into a private network."""
    username, credential = minted(coturn)
    assert await relay(coturn, username, credential, "-e", peer) != 0
    await coturn.says(f"user <{username}>", "error 403")


async def test_two_editors_sync_through_the_relay(server: StartServer, client: StartClient, coturn: Coturn) -> None:
    """Two y-webrtc providers that may not connect directly share a document through coturn."""
    ada, ben = await client("webrtc"), await client("webrtc")
    signaling = await server("signaling", **settings(coturn))
    users = []
    for editor, user in ((ada, "ada"), (ben, "ben")):
        servers = await given(signaling, user)
        users.append(servers[1]["username"])
        await editor.call("open", signaling=signaling.url, room="project", policy="relay", iceServers=servers)
        if editor is ada:
            await ada.event("published")
    for editor in (ada, ben):
        await editor.event("synced", synced=True)
    await ada.call("insert", text="around two firewalls")
    await ben.call("untilText", text="around two firewalls")
    for user in users:
        await coturn.says(f"user <{user}>", "ALLOCATE processed, success")


async def test_no_credential_is_logged(server: StartServer, coturn: Coturn) -> None:
    """The signaling server's log has neither the secret nor what it minted, not even at its most talkative."""
    signaling = await server("signaling", **settings(coturn), LOG_LEVEL="debug")
    _, turn = await given(signaling, "ada")
    await signaling.stop()
    log = "\n".join(signaling.output)
    assert "stopped" in log
    assert not any(word in log for word in (SECRET, turn["credential"], turn["username"]))
