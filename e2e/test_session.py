"""The editor's session: its own messages to the signaling server, and what comes of them."""

from __future__ import annotations

from harness import Client, Event, Server, StartClient, StartServer


async def joined(editor: Client, server: Server, name: str, room: str = "session") -> Event:
    """Connect and join the way the editor does; return the server's `joined`."""
    await editor.call("connect", url=server.url)
    await editor.call("join", room=room, peerId=f"peer-{name}", userId=f"user-{name}", name=name)
    return (await editor.event("joined"))["message"]  # type: ignore[no-any-return]


async def message(editor: Client, kind: str) -> Event:
    """Return the next message of this type from the server."""
    return (await editor.event(kind))["message"]  # type: ignore[no-any-return]


async def test_a_joiner_learns_of_all_peers(server: StartServer, client: StartClient) -> None:
    """`joined` lists all earlier peers with their metadata, and not the joiner."""
    ada, ben, cleo, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    first = await joined(ada, signaling, "ada")
    assert (first["room"], first["peerId"], first["peers"]) == ("session", "peer-ada", [])
    await joined(ben, signaling, "ben")
    third = await joined(cleo, signaling, "cleo")
    assert sorted(third["peers"], key=lambda peer: str(peer["peerId"])) == [
        {"peerId": f"peer-{name}", "userId": f"user-{name}", "metadata": {"name": name, "color": "#4c9ffe"}}
        for name in ("ada", "ben")
    ]


async def test_peers_learn_of_a_joiner(server: StartServer, client: StartClient) -> None:
    """`peer-joined` tells everybody in the room, and nobody else, of a new peer."""
    ada, ben, other, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    await joined(ada, signaling, "ada")
    await joined(other, signaling, "other", room="another session")
    await joined(ben, signaling, "ben")
    assert await message(ada, "peer-joined") == {
        "type": "peer-joined",
        "peerId": "peer-ben",
        "userId": "user-ben",
        "metadata": {"name": "ben", "color": "#4c9ffe"},
    }
    await ben.call("invite", userId="user-other")
    await message(other, "invite")  # whatever the server had for this one has come by now
    assert other.pending("peer-joined") == []


async def test_signals_lead_to_a_data_channel(server: StartServer, client: StartClient) -> None:
    """Offers, answers and candidates pass both ways until simple-peer has a channel that carries a message."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling")
    await joined(ada, signaling, "ada")
    await joined(ben, signaling, "ben")
    await ada.event("channel-open", peerId="peer-ben")
    await ben.event("channel-open", peerId="peer-ada")
    assert (await message(ada, "signal"))["from"] == "peer-ben"
    assert (await message(ben, "signal"))["from"] == "peer-ada"
    await ada.call("say", peerId="peer-ben", text="hello Ben")
    await ben.event("channel-data", peerId="peer-ada", text="hello Ben")
    await ben.call("say", peerId="peer-ada", text="hello Ada")
    await ada.event("channel-data", peerId="peer-ben", text="hello Ada")


async def test_four_editors_are_all_connected_to_each_other(server: StartServer, client: StartClient) -> None:
    """Signals reach the one they are for, however many are in the room."""
    names = ["ada", "ben", "cleo", "dan"]
    editors = {name: await client("session") for name in names}
    signaling = await server("signaling")
    for name, editor in editors.items():
        await joined(editor, signaling, name)
    for name, editor in editors.items():
        for other in names:
            if other != name:
                await editor.event("channel-open", peerId=f"peer-{other}", userId=f"user-{other}")


async def test_an_invitation_reaches_every_editor_of_the_user(server: StartServer, client: StartClient) -> None:
    """An invite reaches all editors of its user, in a room or only registered, and the sender is told."""
    host, there, elsewhere, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    await joined(host, signaling, "host")
    await joined(there, signaling, "ben", room="another session")
    await elsewhere.call("connect", url=signaling.url)
    await elsewhere.call("register", userId="user-ben")
    assert (await message(elsewhere, "registered"))["userId"] == "user-ben"
    await host.call("invite", userId="user-ben")
    for device in (there, elsewhere):
        assert await message(device, "invite") == {
            "type": "invite",
            "from": "user-host",
            "roomId": "session",
            "sessionInfo": {"title": "Building a dashboard", "hostName": "user-host"},
        }
    assert await message(host, "invite-sent") == {"type": "invite-sent", "to": "user-ben", "delivered": True}


async def test_an_invitation_to_an_offline_user_is_reported(server: StartServer, client: StartClient) -> None:
    """The sender learns that the invitation reached nobody."""
    host, signaling = await client("session"), await server("signaling")
    await joined(host, signaling, "host")
    await host.call("invite", userId="user-away")
    sent = await message(host, "invite-sent")
    assert sent == {"type": "invite-sent", "to": "user-away", "delivered": False, "reason": "User offline"}


async def test_a_peer_that_leaves_is_announced_and_can_return(server: StartServer, client: StartClient) -> None:
    """`leave` ends the membership, not the connection."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling")
    await joined(ada, signaling, "ada")
    await joined(ben, signaling, "ben")
    await message(ada, "peer-joined")
    await ben.call("leave")
    assert await message(ada, "peer-left") == {"type": "peer-left", "peerId": "peer-ben"}
    await ben.call("join", room="session", peerId="peer-ben", userId="user-ben", name="ben")
    assert [peer["peerId"] for peer in (await message(ben, "joined"))["peers"]] == ["peer-ada"]
    assert (await message(ada, "peer-joined"))["peerId"] == "peer-ben"
    assert ben.pending("closed") == []


async def test_a_killed_editor_has_left(server: StartServer, client: StartClient) -> None:
    """A killed editor is announced as gone, and the next joiner does not see it."""
    ada, ben, cleo, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    await joined(ada, signaling, "ada")
    await joined(ben, signaling, "ben")
    await ada.event("channel-open")
    await ben.kill()
    assert await message(ada, "peer-left") == {"type": "peer-left", "peerId": "peer-ben"}
    assert [peer["peerId"] for peer in (await joined(cleo, signaling, "cleo"))["peers"]] == ["peer-ada"]


async def test_calls_go_on_when_the_server_stops(server: StartServer, client: StartClient) -> None:
    """A deploy tells nobody that the others have left, so editors keep the channels that need no server."""
    ada, ben, cleo, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    editors = {"ada": ada, "ben": ben, "cleo": cleo}
    for name, editor in editors.items():
        await joined(editor, signaling, name)
    for name, editor in editors.items():
        for other in editors.keys() - {name}:
            await editor.event("channel-open", peerId=f"peer-{other}")
    await signaling.stop()
    for editor in editors.values():
        await editor.event("closed", code=1001)
    for name, editor in editors.items():
        for other in editors.keys() - {name}:
            await editor.call("say", peerId=f"peer-{other}", text=f"from {name}")
            await editors[other].event("channel-data", peerId=f"peer-{name}", text=f"from {name}")
    for editor in editors.values():
        assert editor.pending("peer-left") == editor.pending("channel-closed") == []


async def test_new_metadata_is_told(server: StartServer, client: StartClient) -> None:
    """An editor that changes its name is shown under it, without leaving."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling")
    await joined(ada, signaling, "ada")
    await joined(ben, signaling, "ben")
    await ada.event("channel-open")
    await ben.call("rename", name="Benjamin")
    updated = await message(ada, "peer-updated")
    assert (updated["peerId"], updated["metadata"]) == ("peer-ben", {"name": "Benjamin", "color": "#4c9ffe"})
    assert ada.pending("peer-left") == ada.pending("channel-closed") == []


async def test_a_session_is_previewed(server: StartServer, client: StartClient) -> None:
    """The editor's preview shows a session to an invited user, and says so where there is none."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling")
    assert await ben.call("preview", url=signaling.http, room="session") == "Session Not Found"
    await joined(ada, signaling, "ada")
    await ada.call("present", session={"title": "Dashboard", "maxParticipants": 2, "features": {"audioEnabled": True}})
    await ada.call("present", session={"features": {"videoEnabled": True}})
    await ada.call("invite", userId="nobody")  # whose answer comes after both
    await message(ada, "invite-sent")
    assert await ben.call("preview", url=signaling.http, room="session") == {
        "projectName": "Dashboard",
        "audioEnabled": True,
        "videoEnabled": True,
        "screenShareEnabled": False,
        "host": "ada",
        "maxParticipants": 2,
        "participants": [{"id": "user-ada", "name": "ada"}],
    }


async def test_both_dialects_share_one_server_and_not_one_room(server: StartServer, client: StartClient) -> None:
    """An editor's session and its y-webrtc room of the same name use one URL and do not see each other's members."""
    sessions = [await client("session"), await client("session")]
    documents = [await client("webrtc"), await client("webrtc")]
    signaling = await server("signaling")
    for name, session, document in zip(("ada", "ben"), sessions, documents, strict=True):
        listed = await joined(session, signaling, name)
        await document.call("open", signaling=signaling.url, room="session")
        await document.event("published")  # two that call each other at the same moment get in each other's way
    assert [peer["peerId"] for peer in listed["peers"]] == ["peer-ada"]
    assert (await message(sessions[0], "peer-joined"))["peerId"] == "peer-ben"
    await sessions[0].event("channel-open", peerId="peer-ben")
    for document in documents:
        await document.event("synced", synced=True)
    await documents[0].call("insert", text="both work")
    await documents[1].call("untilText", text="both work")
    assert sessions[0].pending("peer-joined") == []
    assert sessions[0].pending("publish") == []
