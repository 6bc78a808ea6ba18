"""The app of `docs/app.md` works as the page says."""

from __future__ import annotations

from harness import Client, Server, StartClient, StartServer

SECRET = "a secret of a test, in 32 characters or more"
AUTH = {"AUTH": "jwt", "AUTH_SECRET": SECRET}
ROOM = "garden-7f3a"
STUN = "stun:127.0.0.1:3478"


async def opened(client: StartClient, signaling: Server, sync: Server, user: str, seconds: int = 3600) -> Client:
    """Open the app for a user, with a token that the page's own code makes."""
    app = await client("app")
    token = await app.call("mint", secret=SECRET, claims={"sub": user, "rooms": ["garden-*"]}, seconds=seconds)
    await app.call("open", signaling=signaling.url, sync=sync.url, room=ROOM, user=user, token=token)
    return app


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
    ben = await client("app")
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


async def test_notifications(server: StartServer, client: StartClient) -> None:
    """The app shows a notification that was sent before it opened, and one that comes while it is open."""
    notification = await server("notification", **AUTH)
    ann, ben = await client("app"), await client("app")
    tokens = {user: await ann.call("mint", secret=SECRET, claims={"sub": user}) for user in ("ann", "ben")}
    await ben.call("notifications", url=notification.url, user="ben", token=tokens["ben"])
    await ben.call("send", to="ann", type="mention", data={"number": 1})
    await ben.call("send", to="ben", type="mention", data={"number": 2})
    await ben.event("shown", 30, data={"number": 2})  # so the one before it is stored
    await ann.call("notifications", url=notification.url, user="ann", token=tokens["ann"])
    await ann.event("shown", 30, fromUserId="ben", data={"number": 1})
    await ben.call("send", to="ann", type="mention", data={"number": 3})
    await ann.event("shown", 30, fromUserId="ben", data={"number": 3})
