"""The examples of `docs/client.md`, `client-tokens.md` and `client-modules.md` work as the pages say."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from client_guide import python, write_programs
from harness import PATIENCE, Client, Server, StartClient, StartServer
from proxy import network

SECRET = "a secret of a test, in 32 characters or more"
AUTH = {"AUTH": "jwt", "AUTH_SECRET": SECRET}
ROOM = "garden-7f3a"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STUN = "stun:127.0.0.1:3478"


async def opened(client: StartClient, signaling: Server, sync: Server, user: str, seconds: int = 3600) -> Client:
    """Open the app for a user, with a token that the page's own code makes."""
    app = await client("guide")
    token = await app.call("mint", secret=SECRET, claims={"sub": user, "rooms": ["garden-*"]}, seconds=seconds)
    await app.call("open", signaling=signaling.url, sync=sync.url, room=ROOM, user=user, token=token)
    return app


def complaints(browser: Client) -> list[str]:
    """Return the errors on the console, except that pages of these tests have no icon."""
    texts = [event["text"] for event in browser.pending("complained")]
    return [text for text in texts if not text.startswith("Failed to load resource")]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
async def test_the_app_in_20_lines(server: StartServer, client: StartClient, browser: Client, tmp_path: Path) -> None:
    """Two browsers with the first app and the program in Python share a list, and know of each other at once."""
    guide = await client("guide")
    signaling, sync = await server("signaling"), await server("sync")
    html = await guide.call("firstApp", signaling=signaling.url, sync=sync.url)
    for user in ("ann", "ben"):
        # of the same machine; without intervals, an awareness state is not sent again
        await browser.call("open", page=user, url=f"{sync.http}/health", script="globalThis.setInterval = () => 0")
        await browser.call("page", page=user, method="setContent", args=[html])
    await browser.call("shows", page="ann", selector="p", text="2 here")
    await browser.call("page", page="ann", method="fill", args=["input", "Milk"])
    await browser.call("page", page="ann", method="click", args=["button"])
    await browser.call("shows", page="ben", selector="li", text="Milk")
    write_programs(tmp_path, sync=sync.url)
    shopping = await asyncio.create_subprocess_exec(
        sys.executable, "shopping.py", ROOM, cwd=tmp_path, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert shopping.stdout is not None
    assert await asyncio.wait_for(shopping.stdout.readline(), 60) == b"Milk\n"
    output, _ = await asyncio.wait_for(shopping.communicate(b"Bread\n"), 60)
    assert (shopping.returncode, output) == (0, b"Milk, Bread\n")
    await browser.call("shows", page="ann", selector="li", text="Bread")
    assert complaints(browser) == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
async def test_calls_between_browsers(server: StartServer, client: StartClient, browser: Client) -> None:
    """All examples load in a browser, which has nothing of Node, and two browsers call each other."""
    guide = await client("guide")
    signaling = await server("signaling")
    script = await guide.call("forBrowser")
    for user in ("ann", "ben"):
        await browser.call("open", page=user, url=f"{signaling.http}/health")
        await browser.call("page", page=user, method="addScriptTag", args=[{"content": script}])
        options = f"{{url: '{signaling.url}', room: '{ROOM}', user: '{user}', onData: (_, data) => heard.push(data)}}"
        start = f"globalThis.heard = []; globalThis.calls = guide.call({options}); 'started'"
        await browser.call("page", page=user, method="evaluate", args=[start])
    await browser.call("page", page="ann", method="evaluate", args=["setInterval(() => calls.send('hello'), 100)"])
    await browser.call("page", page="ben", method="waitForFunction", args=["String(heard[0]) === 'hello'"])
    assert complaints(browser) == []


async def test_two_users_share_a_document(server: StartServer, client: StartClient) -> None:
    """They meet over WebRTC and on the sync server, and each has one cursor."""
    signaling = await server("signaling", STUN_URLS=STUN, **AUTH)
    sync = await server("sync", **AUTH)
    ann = await opened(client, signaling, sync, "ann")
    ben = await opened(client, signaling, sync, "ben")
    await ann.event("peers", 30, number=1)
    await ann.call("write", text="Hello")
    await ben.call("untilText", text="Hello")
    assert await ben.call("users") == ["ann", "ben"]
    assert await ben.call("iceServers") == [{"urls": [STUN]}]


async def test_a_refused_client_gets_in_with_a_new_token(server: StartServer, client: StartClient) -> None:
    """A client with a token for other rooms is refused by both servers, and gets in with the one that it then gets."""
    signaling, sync = await server("signaling", **AUTH), await server("sync", **AUTH)
    ann = await opened(client, signaling, sync, "ann")
    ben = await client("guide")
    wrong, right = [
        await ben.call("mint", secret=SECRET, claims={"sub": "ben", "rooms": [rooms]}) for rooms in ("other", ROOM)
    ]
    await ben.call("open", signaling=signaling.url, sync=sync.url, room=ROOM, user="ben", token=wrong)
    await ben.call("renewWhenRefused", token=right)
    await ben.event("closed", 30, code=1008)
    await ben.call("untilSynced", 30)
    await ben.event("peers", 30, number=1)
    await ann.call("write", text="Hello")
    await ben.call("untilText", 30, text="Hello")


async def test_an_open_connection_gets_a_new_token(server: StartServer, client: StartClient) -> None:
    """A new token takes effect on the open connection: one for reading stops what its client writes."""
    signaling, sync = await server("signaling", **AUTH), await server("sync", **AUTH)
    ann = await opened(client, signaling, sync, "ann")
    await opened(client, signaling, sync, "ben")
    await ann.event("connected", 30)
    await ann.event("peers", 30, number=1)
    claims = {"sub": "ann", "rooms": ["garden-*"], "access": "read"}
    await ann.call("renew", token=await ann.call("mint", secret=SECRET, claims=claims))
    await ann.call("write", text="Hello")
    warning = await ann.event("warned", 30)
    assert warning["text"].startswith("Permission denied")


async def test_a_token_is_renewed_before_it_expires(server: StartServer, client: StartClient) -> None:
    """At half of a short lifetime both open connections get the next token; the clients stay where they are."""
    signaling, sync = await server("signaling", **AUTH), await server("sync", **AUTH)
    ann = await client("guide")
    claims = {"sub": "ann", "rooms": ["garden-*"]}
    token = await ann.call("mint", secret=SECRET, claims=claims, seconds=20)
    newer = await ann.call("mint", secret=SECRET, claims={**claims, "access": "read"})
    await ann.call("open", signaling=signaling.url, sync=sync.url, room=ROOM, user="ann", token=token)
    await ann.call("untilSynced")
    await ann.call("keepRenewed", token=token, newer=newer)
    await ann.event("asked")
    await ann.call("write", text="Hello")
    assert (await ann.event("warned"))["text"].startswith("Permission denied")
    assert ann.pending("closed") == []


async def test_a_read_only_user(server: StartServer, client: StartClient) -> None:
    """A user who may only read is told that a change was refused, and nobody else gets the change."""
    sync = await server("sync", **AUTH)
    ann = await client("guide")
    token = await ann.call("mint", secret=SECRET, claims={"sub": "ann", "access": "read"})
    await ann.call("openToRead", sync=sync.url, room=ROOM, token=token)
    await ann.call("untilSynced")
    await ann.call("write", text="Hello")
    assert (await ann.event("denied"))["reason"]
    ben = await client("guide")
    await ben.call("openToRead", sync=sync.url, room=ROOM, token=token)
    await ben.call("untilSynced")
    assert await ben.call("read") == ""


async def test_document_is_saved_once_acknowledged(server: StartServer, client: StartClient) -> None:
    """A document is `saving` when something was written, and `saved` when the server has acknowledged it."""
    sync = await server("sync")
    ann = await client("guide")
    await ann.call("openSaved", url=sync.url, room=ROOM)
    await ann.event("saved")
    await ann.call("writeSaved", text="Hello")
    await ann.event("saving")
    await ann.event("saved")


async def test_calls_resume_after_a_cut_connection(server: StartServer, client: StartClient) -> None:
    """A call goes on when its user's connection to the signaling server is cut, and the place is resumed."""
    ann, ben = await client("guide"), await client("guide")
    signaling = await server("signaling", RESUME_GRACE=60_000)
    async with network(signaling.port) as cable:
        await ann.call("call", url=signaling.url, room=ROOM, user="ann")
        await ben.call("call", url=cable.url, room=ROOM, user="ben")
        await said(ann, ben, "before")
        await cable.cut()
        await said(ann, ben, "during")
        await cable.restore()
        await ben.call("untilJoined")
        await said(ben, ann, "after")
        metrics = await asyncio.to_thread(lambda: urlopen(f"{signaling.http}/metrics").read().decode())  # noqa: S310
    assert 'opennoodl_signaling_absences_total{end="resumed"} 1.0' in metrics


async def said(speaker: Client, listener: Client, text: str) -> None:
    """Say something until it is heard: a call takes a moment to connect."""
    async with asyncio.timeout(PATIENCE):
        while not any(event["text"] == text for event in listener.pending("data")):
            await speaker.call("say", text=text)
            await asyncio.sleep(0.1)


async def test_an_invite_waits_for_an_offline_user(server: StartServer, client: StartClient) -> None:
    """An invite says if the user is online, and waits in the inbox if not."""
    ann, ben = await client("guide"), await client("guide")
    signaling, notification = await server("signaling"), await server("notification")
    await ann.call("call", url=signaling.url, room=ROOM, user="ann")
    await ann.call("openInbox", url=notification.url, user="ann")
    await ann.call("untilJoined")
    assert await ann.call("invite", user="ben", room=ROOM, title="Garden") is False
    await ben.call("openInbox", url=notification.url, user="ben")
    await ben.call("untilInbox", total=1, unread=1)
    assert await ben.call("newest") == {"sessionId": ROOM, "sessionTitle": "Garden"}


async def test_an_inbox_on_two_devices(server: StartServer, client: StartClient) -> None:
    """Both devices get a notification that another program sent; what one reads or deletes is so on the other."""
    desk, phone = await client("guide"), await client("guide")
    notification = await server("notification")
    for device in (desk, phone):
        await device.call("openInbox", url=notification.url, user="ann")
    notify = python("notify")
    await asyncio.to_thread(notify, notification.url, "ben", "ann", "Before or after the devices are there.")
    for device in (desk, phone):
        await device.call("untilInbox", total=1, unread=1)
    sent = await asyncio.to_thread(notify, notification.url, "ben", "ann", "Look!")
    for device in (desk, phone):
        shown = await device.event("shown", notification=sent)
        assert (shown["fromUserId"], shown["data"]) == ("ben", {"text": "Look!"})
    await desk.call("markRead", notification=sent)
    await phone.call("untilInbox", total=2, unread=1)
    await phone.call("remove", notification=sent)
    await desk.call("untilInbox", total=1, unread=1)


async def test_an_inbox_after_a_loss(server: StartServer, client: StartClient) -> None:
    """A device that was away gets the changes alone, and all pages of a long list the first time."""
    device = await client("guide")
    notification = await server("notification", SENDS_PER_HOUR=0, RATE_LIMIT=0)
    notify = python("notify")
    for number in range(60):
        await asyncio.to_thread(notify, notification.url, "ben", "ann", str(number))
    async with network(notification.port) as cable:
        await device.call("openInbox", url=cable.url, user="ann")
        await device.call("untilInbox", total=60, unread=60)
        await cable.cut()
        sent = await asyncio.to_thread(notify, notification.url, "ben", "ann", "missed")
        await cable.restore()
        await device.event("missed", notifications=[sent])
        await device.call("untilInbox", total=61, unread=61)
