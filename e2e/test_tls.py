"""The real clients over TLS that a server ends itself, and the images' health checks on it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
from attacks.certificate import certify
from harness import HERE, Server, StartClient, StartServer


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Make a certificate for localhost and return the settings that name it."""
    return certify(tmp_path)


def url(server: Server) -> str:
    """Return where clients find a server that speaks TLS."""
    return f"wss://localhost:{server.port}"


async def test_y_websocket_clients_share_a_document_over_tls(
    server: StartServer, client: StartClient, files: dict[str, str]
) -> None:
    """An edit reaches the other y-websocket client over TLS, and a document of megabytes arrives as a whole."""
    driver = await client("websocket", NODE_EXTRA_CA_CERTS=files["TLS_CERT"])
    sync = await server("sync", REQUIRE_WSS=True, **files)
    for name in ("ada", "ben"):
        await driver.call("open", name=name, url=url(sync), room="project", version="3")
    await driver.call("insert", name="ada", text="x" * 3_000_000)
    await driver.call("finish", name="ada", who="ada")
    await driver.call("untilFinished", name="ben", all=["ada"])
    await driver.call("open", name="carl", url=url(sync), room="project", version="1.5")
    await driver.call("insert", name="carl", text="the end", at=0)
    await driver.call("untilText", name="ada", text="the end" + "x" * 3_000_000)


async def test_y_webrtc_editors_find_each_other_over_tls(
    server: StartServer, client: StartClient, files: dict[str, str]
) -> None:
    """Two editors find each other over signaling in TLS."""
    ada, ben = [await client("webrtc", NODE_EXTRA_CA_CERTS=files["TLS_CERT"]) for _ in range(2)]
    signaling = await server("signaling", REQUIRE_WSS=True, **files)
    await ada.call("open", signaling=url(signaling), room="project")
    await ada.event("published")
    await ben.call("open", signaling=url(signaling), room="project")
    for editor in (ada, ben):
        await editor.event("synced", synced=True)


@pytest.mark.parametrize("kind", ["signaling", "sync", "notification"])
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
async def test_health_check_of_an_image_works_over_tls(
    server: StartServer, files: dict[str, str], kind: str, tls: bool
) -> None:
    """The health check of an image succeeds while its server runs, with TLS and without, and fails when it does not."""
    settings = files if tls else {}
    running = await server(kind, **settings)
    dockerfile = (HERE.parent / f"opennoodl-{kind}-server" / "Dockerfile").read_text()
    asked = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, flags=re.MULTILINE)
    assert asked is not None
    code = json.loads(asked[1])[2]

    async def check() -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            env={"PATH": os.environ["PATH"], "PORT": str(running.port), **settings},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await child.wait()

    assert await check() == 0
    await running.stop()
    assert await check() != 0
