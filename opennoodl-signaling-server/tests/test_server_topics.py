"""y-webrtc's dialect, over sockets, and how the two dialects live side by side."""

from __future__ import annotations

import asyncio
import json

import pytest
from opennoodl_signaling.edge.service import Service

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import CLOSE, TEXT
from .editor import news


async def test_ping_is_answered_with_pong(server: Service, enter: Enter) -> None:
    """`ping` is answered with `pong` and nothing else."""
    editor = await enter(server)
    assert await editor.ask("ping", more=1) == {"type": "pong"}


async def test_publish_reaches_all_subscribers(server: Service, enter: Enter) -> None:
    """A published message reaches every subscriber, the sender too, with `clients` added and nothing else changed."""
    a, b, c = [await enter(server) for _ in range(3)]
    await a.subscribe("t")
    await b.subscribe("t", "u")
    await c.subscribe("u")
    fields = {"topic": "t", "data": "aGk=", "from": "x", "more": {"ü": [1.5, None, "clients"]}, "peerId": "y"}
    await a.send("publish", **fields)
    for editor in (a, b):
        assert await editor.receive() == {"type": "publish", **fields, "clients": 2}
    await c.quiet()


async def test_publish_by_a_stranger(server: Service, enter: Enter) -> None:
    """A client that is not subscribed may publish, and gets nothing back."""
    a, b = await enter(server), await enter(server)
    await a.subscribe("t")
    await b.send("publish", topic="t", data=1)
    assert await a.receive() == {"type": "publish", "topic": "t", "data": 1, "clients": 1}
    await b.quiet()


async def test_publish_without_subscribers_is_dropped(server: Service, enter: Enter) -> None:
    """A topic without subscribers swallows what is published to it."""
    a = await enter(server)
    await a.send("publish", topic="t", data=1)
    await a.quiet()


async def test_published_text_is_unchanged(server: Service, enter: Enter) -> None:
    """The text itself passes through: encrypted and signed payloads are not written anew."""
    a = await enter(server)
    await a.subscribe("t")
    await a.socket.send('{ "type":"publish" , "topic":"t", "n":1.50e0, "s":"\\u00fc\\/" }')
    text = str(await a.socket.recv())
    assert '"n":1.50e0, "s":"\\u00fc\\/"' in text
    assert json.loads(text)["clients"] == 1


async def test_unsubscribed_client_gets_nothing(server: Service, enter: Enter) -> None:
    """An unsubscribed client gets nothing more, and does not count."""
    a, b = await enter(server), await enter(server)
    await a.subscribe("t")
    await b.subscribe("t")
    await b.send("unsubscribe", topics=["t", "never subscribed"])
    await b.quiet()
    assert (await a.ask("publish", topic="t"))["clients"] == 1
    await b.quiet()


async def test_lost_client_is_in_no_topic(server: Service, enter: Enter) -> None:
    """A lost connection is in no topic any more."""
    a, b = await enter(server), await enter(server)
    await a.subscribe("t")
    await b.subscribe("t")
    await b.socket.close()
    await a.quiet()  # another instance may still take b out of the topic
    assert (await a.ask("publish", topic="t"))["clients"] == 1


async def test_second_subscription_delivers_nothing_twice(server: Service, enter: Enter) -> None:
    """y-webrtc subscribes again on every reconnect of a room; nothing is delivered twice."""
    a = await enter(server)
    await a.subscribe("t", "t")
    await a.subscribe("t")
    assert (await a.ask("publish", topic="t"))["clients"] == 1
    await a.quiet()


async def test_topic_size_holds_under_concurrent_subscriptions(start: StartServer, enter: Enter) -> None:
    """MAX_ROOM_SIZE holds for topics too, exactly under concurrent subscriptions."""
    server = await start(max_room_size=3)
    editors = [await enter(server) for _ in range(8)]
    for editor in editors:
        await editor.send("subscribe", topics=["t"], requestId=1)
        await editor.send("ping")
    answers = await asyncio.gather(*(editor.receive() for editor in editors))
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert len(refused) == 5
    assert {(answer["code"], answer["requestId"]) for answer in refused} == {("room-full", 1)}


async def test_refused_client_is_closed_when_a_place_is_free(start: StartServer, enter: Enter) -> None:
    """A client that a full topic refused is closed when a place is free: y-webrtc then connects again by itself."""
    server = await start(max_room_size=1)
    first, second = await enter(server), await enter(server)
    await first.subscribe("t")
    assert await second.refused("subscribe", topics=["t"]) == "room-full"
    await second.quiet()
    await first.socket.close()
    assert await second.closed() == 1013
    again = await enter(server)
    await again.subscribe("t")
    assert (await again.ask("publish", topic="t"))["clients"] == 1


@pytest.mark.in_memory
async def test_place_is_free_unnoticed(start: StartServer, enter: Enter, enter_raw: EnterRaw) -> None:
    """If the one that was closed first is dead, the place is offered to the next one that sends a `ping`."""
    server = await start(max_room_size=1)
    first, third = await enter(server), await enter(server)
    await first.subscribe("t")
    dead = await enter_raw(server, {"type": "subscribe", "topics": ["t"]})
    await dead.frame_of(TEXT)
    assert await third.refused("subscribe", topics=["t"]) == "room-full"
    await first.socket.close()
    assert await dead.frame_of(CLOSE) is not None
    await third.quiet()
    assert await third.closed() == 1013


async def test_topics_of_a_connection_are_bounded(start: StartServer, enter: Enter) -> None:
    """One connection cannot fill the server with topics."""
    server = await start(max_topics=2)
    a = await enter(server)
    assert await a.refused("subscribe", topics=["1", "2", "3"]) == "too-many-topics"


async def test_rooms_and_topics_are_apart(server: Service, enter: Enter) -> None:
    """A room and a topic that bear one name are two things: nothing passes between them, and each has its size."""
    peer, subscriber = await enter(server), await enter(server)
    await peer.join("same", "a")
    await subscriber.subscribe("same")
    assert (await subscriber.ask("publish", topic="same"))["clients"] == 1
    await peer.quiet()
    other = await enter(server)
    await other.join("same", "b")
    assert await peer.expect("peer-joined") == news("b")
    await subscriber.quiet()


async def test_rooms_and_topics_are_counted_apart(start: StartServer, enter: Enter) -> None:
    """A full room does not fill the topic of its name, nor the other way round."""
    server = await start(max_room_size=1)
    peer, subscriber = await enter(server), await enter(server)
    await peer.join("same", "a")
    await subscriber.subscribe("same")


async def test_connection_may_speak_both_dialects(server: Service, enter: Enter) -> None:
    """One connection may speak both dialects: leaving a room leaves no topic, and the other way round."""
    both, other = await enter(server), await enter(server)
    await both.join("same", "a")
    await both.subscribe("same")
    await both.send("leave", room="same")
    assert (await both.ask("publish", topic="same"))["clients"] == 1
    await both.join("same", "a")
    await both.send("unsubscribe", topics=["same"])
    assert (await other.join("same", "b"))["peers"] == [news("a")]
    assert await both.expect("peer-joined") == news("b")
