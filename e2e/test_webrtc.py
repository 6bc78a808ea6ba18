"""y-webrtc: editors that find each other through the signaling server and then talk without any server."""

from __future__ import annotations

import asyncio

from harness import Client, StartClient, StartServer
from proxy import network

# The editor waits five seconds for WebRTC; on one machine a peer is reached in a fraction of one.
FALLBACK_AFTER = 1000


async def connect(first: Client, second: Client, **options: object) -> None:
    """Open a room in two editors and wait until both have synced over WebRTC."""
    await first.call("open", **options)
    # Two that call each other at the same moment get in each other's way: with any server, y-webrtc with a
    # password does not always recover from that.
    await first.event("published")
    await second.call("open", **options)
    for editor in (first, second):
        await editor.event("synced", synced=True)


async def test_two_editors_sync_over_a_data_channel(server: StartServer, client: StartClient) -> None:
    """Two y-webrtc providers find each other through the signaling server; the document goes over WebRTC."""
    ada, ben, signaling = await client("webrtc"), await client("webrtc"), await server("signaling")
    await ada.call("insert", text="written before anybody came, ")
    await connect(ada, ben, signaling=signaling.url, room="project")
    await ben.call("untilText", text="written before anybody came, ")
    await ben.call("insert", text="and after" * 1000)
    await ada.call("untilText", text="written before anybody came, " + "and after" * 1000)
    for editor in (ada, ben):
        assert await editor.call("otherwise") == []
        (connection,) = await editor.call("connections")
        assert connection["connected"]
        assert connection["synced"]
        assert connection["channel"] == "open"
    await ada.call("untilReceived", bytes=len("and after" * 1000))


async def test_editors_go_on_without_the_signaling_server(server: StartServer, client: StartClient) -> None:
    """Once connected, editors need no server: the signaling server goes and they still share edits and cursors."""
    ada, ben, signaling = await client("webrtc"), await client("webrtc"), await server("signaling")
    await connect(ada, ben, signaling=signaling.url, room="project")
    await signaling.stop()
    for editor in (ada, ben):
        await editor.call("untilSignaling", connected=False)
    await ada.call("insert", text="no server has seen this")
    await ben.call("untilText", text="no server has seen this")
    await ben.call("setState", state={"user": "ben"})
    await ada.call("untilUsers", users=["ben"])


async def test_a_room_with_a_password_is_announced_encrypted(server: StartServer, client: StartClient) -> None:
    """With a password y-webrtc encrypts what it publishes; the server passes it on without understanding it."""
    ada, ben, signaling = await client("webrtc"), await client("webrtc"), await server("signaling")
    await connect(ada, ben, **{"signaling": signaling.url, "room": "project", "password": "only we know"})
    await ada.call("insert", text="hello")
    await ben.call("untilText", text="hello")


async def test_three_editors_are_all_connected_to_each_other(server: StartServer, client: StartClient) -> None:
    """Every new editor is announced to all others."""
    editors = [await client("webrtc") for _ in range(3)]
    signaling = await server("signaling")
    await connect(editors[0], editors[1], signaling=signaling.url, room="project")
    await editors[2].call("open", signaling=signaling.url, room="project")
    await editors[2].event("synced", synced=True)
    await editors[0].call("insert", text="for all")
    await asyncio.gather(*(editor.call("untilText", text="for all") for editor in editors))


async def test_topics_are_apart(server: StartServer, client: StartClient) -> None:
    """Editors in different rooms of one signaling server do not find each other."""
    ada, ben, stranger = await client("webrtc"), await client("webrtc"), await client("webrtc")
    signaling = await server("signaling")
    await stranger.call("open", signaling=signaling.url, room="another project")
    await connect(ada, ben, signaling=signaling.url, room="project")
    assert await stranger.call("connections") == []
    assert stranger.pending("peers") == []


async def test_a_killed_editor_is_dropped_by_the_others(server: StartServer, client: StartClient) -> None:
    """A killed editor leaves the room, and the next one meets only the others."""
    ada, ben, cleo = await client("webrtc"), await client("webrtc"), await client("webrtc")
    signaling = await server("signaling")
    await connect(ada, ben, signaling=signaling.url, room="project")
    await ada.kill()
    await cleo.call("open", signaling=signaling.url, room="project")
    await cleo.event("synced", synced=True)
    await ben.call("insert", text="still here")
    await cleo.call("untilText", text="still here")


async def test_an_editor_that_a_full_room_refused_comes_in_later(server: StartServer, client: StartClient) -> None:
    """y-webrtc that was refused is not alone for ever: when somebody leaves, it connects again and finds the others."""
    ada, ben, cleo = await client("webrtc"), await client("webrtc"), await client("webrtc")
    signaling = await server("signaling", MAX_ROOM_SIZE=2)
    await connect(ada, ben, signaling=signaling.url, room="project")
    await cleo.call("open", signaling=signaling.url, room="project")
    await cleo.event("refused", code="room-full")
    await ben.kill()
    await cleo.event("synced", synced=True)
    await ada.call("insert", text="at last")
    await cleo.call("untilText", text="at last")


async def test_an_editor_is_not_kept_out_by_its_own_ghost(server: StartServer, client: StartClient) -> None:
    """An editor whose dead connection still fills the room gets its place as soon as the server has noticed."""
    ada, ben = await client("webrtc"), await client("webrtc")
    signaling = await server("signaling", MAX_ROOM_SIZE=2, HEARTBEAT_INTERVAL=1000)
    async with network(signaling.port) as cable:
        await ada.call("open", signaling=signaling.url, room="project")
        await ada.event("published")
        await ben.call("open", signaling=cable.url, room="project")
        await ben.event("synced", synced=True)
        cable.lose()
        await ben.call("disconnect")
        await ben.call("reconnect")
        await ben.event("refused", code="room-full")
        await ben.event("published")
        await ada.call("insert", text="back again")
        await ben.call("untilText", text="back again")


async def test_where_webrtc_is_impossible_the_document_goes_on_through_the_sync_server(
    server: StartServer, client: StartClient
) -> None:
    """Editors that find each other but no way between them share the same document over the sync server instead."""
    ada, ben = await client("webrtc"), await client("webrtc")
    signaling, sync = await asyncio.gather(server("signaling"), server("sync"))
    # Only through a relay, and there is none: what a strict firewall amounts to.
    options = {"signaling": signaling.url, "room": "project", "policy": "relay", "sync": sync.url}
    for editor, text in ((ada, "Ada's, written alone; "), (ben, "Ben's, written alone; ")):
        await editor.call("insert", text=text)
        await editor.call("finish", who=text)
        await editor.call("open", fallbackAfter=FALLBACK_AFTER, **options)
    for editor in (ada, ben):
        await editor.event("peers")  # signaling did its part
        await editor.event("fallback")
        assert not any(connection["connected"] for connection in await editor.call("connections"))
    both = ["Ada's, written alone; ", "Ben's, written alone; "]
    for editor in (ada, ben):
        await editor.call("untilFinished", all=both)
    text = await ada.call("text")
    assert text in {"".join(both), "".join(reversed(both))}
    await ben.call("insert", text="and on together")
    await ada.call("untilText", text=text + "and on together")
    await ada.call("setState", state={"user": "ada"})
    await ben.call("untilUsers", users=["ada"])


async def test_where_no_signaling_server_answers_the_document_goes_on_through_the_sync_server(
    server: StartServer, client: StartClient
) -> None:
    """An editor whose signaling server is away works through the sync server."""
    ada, ben = await client("webrtc"), await client("webrtc")
    signaling, sync = await asyncio.gather(server("signaling"), server("sync"))
    await signaling.stop()
    for editor in (ada, ben):
        await editor.call("open", signaling=signaling.url, room="project", fallbackAfter=FALLBACK_AFTER, sync=sync.url)
    for editor in (ada, ben):
        await editor.event("fallback")
    await ada.call("insert", text="through the server")
    await ben.call("untilText", text="through the server")


async def test_editors_that_are_connected_do_not_fall_back(server: StartServer, client: StartClient) -> None:
    """With WebRTC at work nothing goes to the sync server."""
    ada, ben = await client("webrtc"), await client("webrtc")
    signaling, sync = await asyncio.gather(server("signaling"), server("sync"))
    await connect(ada, ben, signaling=signaling.url, room="project")
    for editor in (ada, ben):
        await editor.call("fallBack", sync=sync.url, room="project")
        await editor.event("direct")
    await ada.call("insert", text="between us")
    await ben.call("untilText", text="between us")
    assert (await sync.health())["metrics"]["activeDocuments"] == 0
