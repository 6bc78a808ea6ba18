"""With authentication, a client enters the rooms that its token allows, and changes documents only if it may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.edge.auth.authenticator import ATTEMPTS
from opennoodl_sync.rooms.room import READING
from opennoodl_sync.y_protocol import Kind
from websockets.asyncio.client import connect

from .client import Client, Server, get, running
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .editor import Editor
from .wire import awareness_message, step_2, token_message, update_message


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server that lets in who has a token."""
    async with running(tmp_path / "data", auth="jwt", auth_secret=SECRET) as server:
        yield server


async def enter(server: Server, room: str, number: int, token: str, **more: str) -> Client:
    """Join a room with a token, and be up to date."""
    query = "&".join(f"{name}={value}" for name, value in {**more, "token": token}.items())
    return await server.join(f"{room}?{query}", number)


def denial(message: bytes) -> str:
    """Return why something was not permitted."""
    assert message[:2] == b"\x02\x00", message
    assert message[2] == len(message) - 3
    return message[3:].decode()


async def shut(server: Server, path: str, **headers: str) -> tuple[int, str]:
    """Return the code that closes a connection, and the reason in the message before that."""
    client = Client(await connect(server.url(path), additional_headers=headers), 1)
    server.clients.append(client)
    code = await client.ended()
    (message,) = client.messages
    return code, denial(message)


async def test_a_token_lets_its_client_edit(server: Server) -> None:
    """A client with a token edits together with the others."""
    ann, bob = await enter(server, "r", 1, signed()), await enter(server, "r", 2, signed(sub="bob"))
    await ann.type("hello")
    await bob.shows("hello")


async def test_a_bearer_token_is_accepted(server: Server) -> None:
    """A program may bring its token as a bearer token."""
    headers = {"Authorization": f"Bearer {signed()}"}
    client = Client(await connect(server.url("r"), additional_headers=headers), 1)
    server.clients.append(client)
    await client.step_1()
    await client.until(lambda: client.synced)


@pytest.mark.parametrize("token", ["", "x", signed(OTHER_SECRET), signed(exp=1), signed(rooms=["team-*"])])
async def test_a_client_without_access_is_told_why(server: Server, token: str) -> None:
    """A client without a token for the room is told why by the auth protocol and closed; nothing is loaded for it."""
    code, reason = await shut(server, f"r?token={token}")
    assert (code, reason.endswith(".")) == (1008, True)
    assert not server.app.rooms.rooms


async def test_room_is_the_path(server: Server) -> None:
    """A pattern is held against the name as it stands in the path: no other spelling of it opens a room."""
    token = signed(rooms=["a"])
    await enter(server, "a", 1, token)
    for path in ("%61", "A", "a/", "a/b", "/a", "a%00"):
        assert (await shut(server, f"{path}?token={token}"))[0] == 1008


async def test_a_reader_sees_and_is_seen(server: Server) -> None:
    """A read-only user sees the document, its changes and the others, and is seen."""
    ann = await enter(server, "r", 1, signed())
    await ann.type("before ")
    reader = await enter(server, "r", 2, signed(sub="bob", access="read"))
    await reader.shows("before ")
    await ann.type("after ")
    await reader.shows("after ")
    await ann.point(1, {"name": "ann"})
    await reader.point(1, {"name": "bob"})
    for client in (ann, reader):
        await client.knows({1: (1, {"name": "ann"}), 2: (1, {"name": "bob"})})


async def test_reader_changes_nothing(server: Server) -> None:
    """No message of a reader changes the document, and each is answered with why; others and the disk see nothing."""
    ann = await enter(server, "r", 1, signed())
    await ann.type("hers ")
    reader = await enter(server, "r", 2, signed(sub="bob", access="read"))
    forged, counted = Editor(3).write("his "), server.app._sessions.updates
    for message in (update_message(forged), step_2(forged)):
        heard = len(reader.messages)
        await reader.socket.send(message)
        await reader.hears(heard)
        assert denial(reader.messages[-1]) == READING
    assert server.app._sessions.updates == counted
    await ann.type("again ")
    await reader.shows("again ")
    late = await enter(server, "r", 4, signed())
    assert late.text == ann.text == "hers again "


async def test_reader_deletes_nothing(server: Server) -> None:
    """A deletion is a change and answered; in a step 2, which repeats all deletions, it is dropped without a word."""
    ann = await enter(server, "r", 1, signed())
    await ann.type("hers ")
    editor = Editor(3, *ann.updates)
    deletion = editor.delete(0, 4)
    reader = await enter(server, "r", 2, signed(access="read"))
    heard = len(reader.messages)
    await reader.socket.send(step_2(deletion))
    await reader.socket.send(update_message(deletion))
    await reader.hears(heard)
    assert [denial(message) for message in reader.messages[heard:]] == [READING]
    await ann.type("again ")
    await reader.shows("again ")
    assert ann.text == "hers again "


async def test_reader_and_the_cursors_of_others(server: Server) -> None:
    """A read-only user cannot move or end the awareness states of others."""
    ann = await enter(server, "r", 1, signed())
    await ann.point(1, {"name": "ann"})
    reader = await enter(server, "r", 2, signed(access="read"))
    await reader.knows({1: (1, {"name": "ann"})})
    await reader.socket.send(awareness_message((1, 9, None)))
    await reader.socket.send(awareness_message((1, 9, {"name": "fool"}), (2, 1, {"name": "bob"})))
    await ann.knows({1: (1, {"name": "ann"}), 2: (1, {"name": "bob"})})


async def test_reader_and_the_cursors_of_the_absent(server: Server) -> None:
    """A read-only user cannot show a cursor of a user who has left or has only written so far."""
    ann, carol = await enter(server, "r", 1, signed()), await enter(server, "r", 3, signed())
    await ann.point(1, {"name": "ann"})
    await carol.type("hers ")
    reader = await enter(server, "r", 2, signed(sub="bob", access="read"))
    await reader.knows({1: (1, {"name": "ann"})})
    await ann.socket.close()
    await reader.knows({1: (1, None)})
    fool = {"name": "fool"}
    await reader.socket.send(awareness_message((1, 9, fool), (3, 9, fool), (2, 1, {"name": "bob"})))
    await carol.knows({1: (1, None), 2: (1, {"name": "bob"})})


async def test_reader_gets_no_acknowledgement(server: Server) -> None:
    """A dropped update is not acknowledged."""
    reader = await enter(server, "r", 2, signed(access="read"), ack="true")
    reader.write("his ")
    await reader.push_edits()
    await reader.point(1, {})
    await reader.knows({2: (1, {})})
    assert not any(message[0] == 100 for message in reader.messages)


async def test_a_newer_token_replaces_the_older(server: Server) -> None:
    """A newer token takes the place of the one that the client came with, and its access holds from then on."""
    ann = await enter(server, "r", 1, signed())
    bob = await enter(server, "r", 2, signed(sub="bob", access="read"))
    (connection,) = (c for c in server.members("r") if c.identity is not None and c.identity.user == "bob")
    assert connection.deadline is not None
    ends = connection.deadline
    await bob.socket.send(token_message(signed(sub="bob", exp=5_000_000_000)))
    await bob.type("his ")
    await ann.shows("his ")
    assert connection.deadline > ends + 1000
    await bob.socket.send(token_message(signed(sub="bob", access="read")))
    heard = len(bob.messages)
    await bob.type("lost ")
    await bob.until(lambda: any(message[0] == 2 for message in bob.messages[heard:]))
    assert ann.text == "his "


@pytest.mark.parametrize("token", ["x", signed(sub="bob"), signed(rooms=["s"]), "\ud800"])
async def test_renewed_with_a_wrong_token(server: Server, token: str) -> None:
    """A token that is wrong, another user's or not for the room changes nothing, and is answered with why."""
    ann, other = await enter(server, "r", 1, signed()), await enter(server, "r", 2, signed())
    heard = len(ann.messages)
    await ann.socket.send(token_message(token))
    await ann.until(lambda: any(message[0] == 2 for message in ann.messages[heard:]))
    await ann.type("still here")
    await other.shows("still here")


async def test_five_rejected_tokens_close_the_client(server: Server) -> None:
    """A client with five rejected tokens is closed with 1008."""
    ann = await enter(server, "r", 1, signed())
    for _ in range(ATTEMPTS):
        await ann.socket.send(token_message("x"))
    assert await ann.ended() == 1008


async def test_an_expired_token_closes_its_client(server: Server) -> None:
    """A connection ends with its token, and the others see its cursor go."""
    ann, bob = await enter(server, "r", 1, signed()), await enter(server, "r", 2, signed(sub="bob"))
    await bob.point(1, {"name": "bob"})
    await ann.knows({2: (1, {"name": "bob"})})
    (connection,) = (c for c in server.members("r") if c.identity is not None and c.identity.user == "bob")
    connection.set_deadline(0, "Your token has expired.")
    assert await bob.ended() == 1008
    await ann.knows({2: (1, None)})


async def test_token_without_authentication(tmp_path: Path) -> None:
    """Where nobody has to prove anything, a token is no mistake."""
    async with running(tmp_path / "data") as server:
        ann, bob = await enter(server, "r", 1, "x"), await server.join("r", 2)
        await ann.socket.send(token_message("y"))
        await ann.type("hello")
        await bob.shows("hello")


async def test_tokens_are_counted_by_outcome(server: Server) -> None:
    """The messages with tokens are counted, and no label has one."""
    ann = await enter(server, "r", 1, signed())
    await ann.socket.send(token_message(signed()))
    await ann.point(1, {})
    await ann.knows({1: (1, {})})
    text = (await get(server.service.port, "/metrics")).body.decode()
    assert f'opennoodl_messages_total{{direction="in",type="{Kind.TOKEN.label}"}} 1.0' in text
    assert 'opennoodl_tokens_total{outcome="accepted"} 2.0' in text
    assert signed()[:20] not in text
