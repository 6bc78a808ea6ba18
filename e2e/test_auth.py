"""The real clients where users prove who they are: with tokens of the community's own, or of GitHub's."""

from __future__ import annotations

import time

import jwt
import pytest
from attacks import github_api
from harness import StartClient, StartServer

SECRET = "a secret of more than 32 characters, for tests"
JWT = {"AUTH": "jwt", "AUTH_SECRET": SECRET}


def token(user: str, **claims: object) -> str:
    """Return a token of a user, as whoever logs users in makes it."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600, **claims}, SECRET, algorithm="HS256")


@pytest.mark.parametrize("version", ["1.5", "3"])
async def test_a_document_is_shared_with_tokens(server: StartServer, client: StartClient, version: str) -> None:
    """A token lets its user edit; a read-only user sees the edits, and nobody sees the edits of that user."""
    driver, sync = await client("websocket"), await server("sync", **JWT)
    room = {"url": sync.url, "room": "team-1", "version": version}
    await driver.call("open", name="ada", token=token("ada"), **room)
    await driver.call("insert", name="ada", text="from Ada, ")
    await driver.call("open", name="guest", token=token("guest", access="read"), **room)
    await driver.call("untilText", name="guest", text="from Ada, ")
    await driver.call("insert", name="guest", text="from a guest, ")
    assert "only read" in (await driver.event("denied"))["text"]
    await driver.call("open", name="ben", token=token("ben", rooms=["team-*"]), **room)
    await driver.call("untilText", name="ben", text="from Ada, ")
    await driver.call("insert", name="ben", text="from Ben")
    await driver.call("untilText", name="ada", text="from Ada, from Ben")


async def test_y_websocket_may_send_its_token_in_a_subprotocol(server: StartServer, client: StartClient) -> None:
    """y-websocket connects with any subprotocol; one of several can carry the token, which is then in no URL."""
    driver, sync = await client("websocket"), await server("sync", **JWT)
    room = {"url": sync.url, "room": "team-1", "version": "3"}
    await driver.call("open", name="ada", token=token("ada"), protocols=["yjs"], **room)
    await driver.call("insert", name="ada", text="from Ada")
    await driver.call("open", name="ben", protocols=["yjs", f"opennoodl.token.{token('ben')}"], **room)
    await driver.call("untilText", name="ben", text="from Ada")
    await driver.call("open", name="cleo", protocols=[f"opennoodl.token.{token('cleo')}"], **room)
    await driver.call("untilText", name="cleo", text="from Ada")


async def test_a_document_is_closed_to_others(server: StartServer, client: StartClient) -> None:
    """A client without a token for a room is told why, tries again, and enters with the first valid token."""
    driver, sync = await client("websocket"), await server("sync", **JWT)
    room = {"url": sync.url, "room": "team-1", "version": "3"}
    await driver.send("open", name="ada", token=token("ada", rooms=["team-2"]), **room)
    assert "not for this room" in (await driver.event("denied"))["text"]
    await driver.event("closed", name="ada", code=1008)
    await driver.call("renew", name="ada", token=token("ada"))
    await driver.call("untilSynced", name="ada")


@pytest.mark.parametrize("version", ["1.5", "3"])
@pytest.mark.parametrize("why", ["expired", "full"])
async def test_a_refused_client_does_not_storm(
    server: StartServer, client: StartClient, version: str, why: str
) -> None:
    """A client that is refused is told why at once, and is closed so late that it comes back seldom."""
    refused, sync = await client("denied"), await server("sync", **(JWT if why == "expired" else {"MAX_ROOM_SIZE": 1}))
    room = {"url": sync.url, "room": "project", "version": version}
    if why == "full":
        holder = await client("websocket")
        await holder.call("open", name="ada", **room)
        await refused.call("open", **room)
    else:
        await refused.call("open", token=token("ada", exp=int(time.time()) - 600), **room)
    connected = await refused.event("connected")
    assert why in (await refused.event("denied"))["text"]
    closed = await refused.event("closed", code=1008 if why == "expired" else 1013)
    assert closed["at"] - connected["at"] > 1000
    await refused.event("connected")
    await refused.event("denied")
    assert refused.pending("closed") == []


async def test_editors_find_each_other_with_tokens(server: StartServer, client: StartClient) -> None:
    """y-webrtc sends its token in the signaling server's address; a client without one is refused and meets nobody."""
    ada, ben, eve = [await client("webrtc") for _ in range(3)]
    signaling = await server("signaling", **JWT)
    await ada.call("open", signaling=f"{signaling.url}/?token={token('ada')}", room="project")
    await ada.event("published")
    await eve.call("open", signaling=f"{signaling.url}/?token=x", room="project")
    await eve.event("refused", code="unauthorized")
    await ben.call("open", signaling=f"{signaling.url}/?token={token('ben', rooms=['project'])}", room="project")
    for editor in (ada, ben):
        await editor.event("synced", synced=True)
    await ada.call("insert", text="hello")
    await ben.call("untilText", text="hello")
    assert await eve.call("connections") == []


async def test_a_session_with_tokens(server: StartServer, client: StartClient) -> None:
    """The editor's session joins with tokens; an editor that claims another's name is refused."""
    ada, ben, eve, signaling = *[await client("session") for _ in range(3)], await server("signaling", **JWT)
    for editor, name in ((ada, "ada"), (ben, "ben"), (eve, "ben")):
        await editor.call("connect", url=signaling.url)
        shown = token("eve") if editor is eve else token(name)
        await editor.call("join", room="session", peerId=name, userId=name, name=name, token=shown)
        await editor.event("error" if editor is eve else "joined")
    await ada.event("channel-open", peerId="ben")
    assert ben.pending("closed") == []


async def test_inboxes_of_githubs_users(server: StartServer, client: StartClient) -> None:
    """With GitHub's tokens, users are their logins on every device, and cannot be anybody else."""
    async with github_api.github_api() as api:
        ada, desk, couch, eve = [await client("notifications") for _ in range(4)]
        notification = await server("notification", AUTH="github", GITHUB_API_URL=api)
        for device, name in ((ada, "ada"), (desk, "ben"), (couch, "ben")):
            await device.call("initialize", url=notification.url, userId=name, token=github_api.token(name))
            await device.event("notifications")
        await eve.call("initialize", url=notification.url, userId="ben", token=github_api.token("ada"))
        assert (await eve.event("error"))["message"]["code"] == "unauthorized"
        await ada.call("sendAsMeant", userId="ben", type="mention", data={})
        for device in (desk, couch):
            assert (await device.event("notification"))["message"]["notification"]["fromUserId"] == "ada"
        assert eve.pending("notification") == []


async def test_two_tabs_come_to_rest(server: StartServer, client: StartClient) -> None:
    """Of two tabs that are one peer and both come back whenever they are replaced, one stays."""
    first, second, signaling = await client("session"), await client("session"), await server("signaling", **JWT)
    who = {"room": "session", "peerId": "peer-ada", "userId": "ada", "name": "ada", "token": token("ada")}
    for editor in (first, second):
        await editor.call("connect", url=signaling.url)
        await editor.call("join", **who, persist=True)
        await editor.event("joined")
    await first.event("closed", code=4409)
    assert (await first.event("error"))["message"]["code"] == "peer-id-taken"
    assert second.pending("closed") == first.pending("closed") == []
