"""Topics: who is subscribed gets what is published, and the whole of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_signaling.edge.errors import BadMessage
from opennoodl_signaling.rooms.model import Client, Close, Effect, Room
from opennoodl_signaling.y_webrtc import Topics

from .peers import named
from .rooms_driver import refused

A, B, C, D = (named(name) for name in "abcd")


@pytest.fixture
def topics() -> Topics:
    """Return topics of at most 2 subscribers, 3 for each client."""
    return Topics(2, 3)


@pytest.fixture(autouse=True)
def _anew() -> None:
    """Let nobody be subscribed to anything yet."""
    for client in (A, B, C, D):
        client.topics.clear()
        client.awaited.clear()


def closed(effects: list[Effect]) -> list[Client]:
    """Return who is to be closed with 1013."""
    assert all(isinstance(effect, Close) and effect.code == 1013 for effect in effects)
    return [effect.client for effect in effects if isinstance(effect, Close)]


def receivers(topics: Topics, topic: str) -> set[Client]:
    """Return who would get what is published."""
    publisher = next(iter(topics.topics.get(topic, ())), A)
    return set(topics.publish(publisher, topic, b'{"type":"publish"}')[0])


def test_subscribers_get_only_their_topics(topics: Topics) -> None:
    """Subscribers get what is published to their topics, and nothing else."""
    topics.subscribe(A, ["x", "y"])
    topics.subscribe(B, ["y"])
    assert receivers(topics, "x") == {A}
    assert receivers(topics, "y") == {A, B}
    assert receivers(topics, "z") == set()


def test_repeated_subscription_changes_nothing(topics: Topics) -> None:
    """Subscribing again changes nothing, also where the topic is full."""
    topics.subscribe(A, ["x", "x"])
    topics.subscribe(B, ["x"])
    topics.subscribe(A, ["x"])
    assert receivers(topics, "x") == {A, B}


def test_full_topic_refuses_another_subscriber(topics: Topics) -> None:
    """A topic has as many subscribers as a room has peers; one more is refused."""
    topics.subscribe(A, ["x"])
    topics.subscribe(B, ["x"])
    with pytest.raises(BadMessage) as info:
        topics.subscribe(C, ["x"])
    assert info.value.code == "room-full"
    assert receivers(topics, "x") == {A, B}
    assert C.topics == set()


def test_left_place_in_a_topic_can_be_taken(topics: Topics) -> None:
    """A place that was left is free."""
    topics.subscribe(A, ["x"])
    topics.subscribe(B, ["x"])
    topics.unsubscribe(A, ["x"])
    topics.subscribe(C, ["x"])
    assert receivers(topics, "x") == {B, C}


def test_full_topic_does_not_block_the_others(topics: Topics) -> None:
    """A full topic does not keep a client from the topics that are named after it."""
    topics.subscribe(A, ["x"])
    topics.subscribe(B, ["x"])
    with refused("room-full"):
        topics.subscribe(C, ["x", "y"])
    assert C.topics == {"y"}


def test_first_refused_client_is_closed_for_a_free_place(topics: Topics) -> None:
    """For each place that is free, one client that was refused is closed, so that it connects again: the first."""
    topics.subscribe(A, ["x"])
    topics.subscribe(B, ["x"])
    for client in (C, D):
        with refused("room-full"):
            topics.subscribe(client, ["x"])
    assert closed(topics.unsubscribe(A, ["x"])) == [C]
    topics.forget(C)
    topics.subscribe(C, ["x"])
    assert closed(topics.forget(B)) == [D]


def test_next_refused_client_is_closed_if_the_first_stays_away(topics: Topics) -> None:
    """If the one that was closed does not come back, the next one that pings is closed; the others are left alone."""
    topics.subscribe(A, ["x"])
    topics.subscribe(B, ["x"])
    for client in (C, D):
        with refused("room-full"):
            topics.subscribe(client, ["x"])
    assert topics.close_if_free(D) == []
    topics.forget(A)
    topics.forget(C)
    assert closed(topics.close_if_free(D)) == [D]
    assert topics.close_if_free(B) == []


def test_place_is_free_for_nobody(topics: Topics) -> None:
    """A client that does not want the topic any more, got it, or is in a room with other peers, is not closed."""
    topics.subscribe(A, ["x", "y"])
    topics.subscribe(B, ["x", "y"])
    with refused("room-full"):
        topics.subscribe(C, ["x", "y"])
    topics.unsubscribe(C, ["x"])
    assert topics.unsubscribe(A, ["x"]) == []
    C.room = Room("r")
    assert topics.unsubscribe(A, ["y"]) == []
    C.room = None
    topics.subscribe(C, ["y"])
    assert topics.unsubscribe(B, ["y"]) == []


def test_topics_waited_for_are_bounded(topics: Topics) -> None:
    """A client waits for no more topics than it may subscribe to, and nothing is left when it is gone."""
    names = ["1", "2", "3", "4"]
    for client in (A, B):
        topics.subscribe(client, ["1", "2", "3"])
    with refused("too-many-topics"):
        topics.subscribe(C, names)
    assert (C.awaited, C.topics) == ({"1", "2", "3"}, set())
    for client in (A, B, C):
        topics.forget(client)
    assert topics.topics == topics._waiting == {}


def test_long_list_of_topics_is_read_up_to_the_bound(topics: Topics) -> None:
    """Of many names, those that are new are looked at, as far as a client may have them."""
    topics.subscribe(A, ["x"])
    assert list(topics.new_topics(A, ["x", "1", "1", "2", "3", "4"])) == ["1", "2"]
    assert list(Topics(0, 0).new_topics(A, ["x", *map(str, range(500))])) == [str(number) for number in range(500)]


def test_number_of_topics_is_bounded(topics: Topics) -> None:
    """A connection has a bounded number of topics."""
    with pytest.raises(BadMessage) as info:
        topics.subscribe(A, ["1", "2", "3", "4"])
    assert info.value.code == "too-many-topics"
    assert A.topics == {"1", "2", "3"}
    assert set(topics.topics) == {"1", "2", "3"}


def test_limits_of_zero_are_no_limits() -> None:
    """Limits of 0 mean none."""
    topics = Topics(0, 0)
    clients = [named(number) for number in range(100)]
    for client in clients:
        topics.subscribe(client, [str(number) for number in range(200)])
    assert receivers(topics, "199") == set(clients)


def test_unsubscribed_client_receives_nothing(topics: Topics) -> None:
    """An unsubscribed client receives nothing more."""
    topics.subscribe(A, ["x", "y"])
    topics.unsubscribe(A, ["x", "never subscribed"])
    assert receivers(topics, "x") == set()
    assert receivers(topics, "y") == {A}


def test_empty_topics_cost_nothing(topics: Topics) -> None:
    """A topic without subscribers is forgotten, and publishing to it makes none."""
    topics.subscribe(A, ["x"])
    topics.unsubscribe(A, ["x"])
    topics.publish(A, "z", b'{"type":"publish"}')
    assert topics.topics == {}


def test_refused_topic_costs_nothing() -> None:
    """A refused subscription leaves no topic behind."""
    topics = Topics(1, 0)
    topics.subscribe(A, ["x"])
    with pytest.raises(BadMessage):
        topics.subscribe(B, ["x"])
    topics.forget(A)
    assert topics.topics == {}


def test_forgotten_client_is_in_no_topic(topics: Topics) -> None:
    """A client that is gone is in no topic."""
    topics.subscribe(A, ["x", "y"])
    topics.subscribe(B, ["y"])
    topics.forget(A)
    topics.forget(A)
    assert topics.topics == {"y": {B}}
    assert A.topics == set()


def test_publish_to_a_full_topic() -> None:
    """A client outside of a full topic reaches nobody in it; with a free place, any client does."""
    topics = Topics(2, 0)
    topics.subscribe(A, ["x"])
    assert topics.publish(C, "x", b"{}")[0] == {A}
    topics.subscribe(B, ["x"])
    with pytest.raises(BadMessage, check=lambda bad: bad.code == "room-full"):
        topics.publish(C, "x", b"{}")
    assert topics.publish(A, "x", b"{}")[0] == {A, B}


@given(
    message=st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=5),
    indent=st.none() | st.integers(0, 2),
    space=st.sampled_from(["", " ", "\n\t"]),
)
def test_published_message_carries_the_number_of_clients(
    message: dict[str, object], indent: int | None, space: str
) -> None:
    """A published message is passed on unchanged, with the number of subscribers added."""
    topics = Topics(0, 0)
    for name in "ab":
        topics.subscribe(named(name), ["t"])
    message = {**message, "type": "publish", "topic": "t"}
    text = space + json.dumps(message, indent=indent) + space
    _, published = topics.publish(A, "t", text.encode())
    assert json.loads(published) == {**message, "clients": 2}


def test_publish_keeps_the_text(topics: Topics) -> None:
    """Numbers and escapes stay as the publisher wrote them: payloads may be encrypted or signed."""
    topics.subscribe(A, ["t"])
    _, published = topics.publish(A, "t", b'{"type":"publish", "topic":"t","n":1.50e0,"s":"\\u00fc\\/" }')
    assert published.startswith(b'{"type":"publish", "topic":"t","n":1.50e0,"s":"\\u00fc\\/" ')


def test_publisher_cannot_fake_the_number_of_clients(topics: Topics) -> None:
    """A publisher cannot fake the number of subscribers."""
    topics.subscribe(A, ["t"])
    _, published = topics.publish(A, "t", b'{"clients":99,"type":"publish","topic":"t"}')
    assert json.loads(published)["clients"] == 1
