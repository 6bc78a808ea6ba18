"""Topics: y-webrtc's publish and subscribe. Knows no socket.

A topic exists while it has a subscriber. It is independent of a room with the same name.
Source of the dialect: y-webrtc 10.3, ``bin/server.js`` and ``src/y-webrtc.js``.
"""

from collections.abc import Collection, Iterable
from itertools import islice

from .edge.errors import BadMessage
from .rooms.model import Client, Close, Effect


class Topics:
    """All topics of this process.

    Args:
        max_size: limit of the subscribers of one topic; 0 means no limit.
        max_topics: limit of the topics of one client, including those it waits for; 0 means no limit.
    """

    def __init__(self, max_size: int, max_topics: int) -> None:
        self.topics: dict[str, set[Client]] = {}
        self._waiting: dict[str, dict[Client, None]] = {}
        self._max_size = max_size
        self._max_topics = max_topics

    def new_topics(self, client: Client, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""
        new = (name for name in dict.fromkeys(names) if name not in client.topics)
        return islice(new, self._max_topics - len(client.topics)) if self._max_topics else new

    def subscribe(self, client: Client, names: Iterable[str]) -> None:
        """Subscribe a client to topics. It waits for the topics that are full. A second subscription has no effect.

        Raises:
            BadMessage: `room-full` if a topic is full; the client is subscribed to all other topics then.
                `too-many-topics` if the client has too many; it is subscribed to the topics before that one then.
        """
        full = False
        for name in names:
            if name in client.topics:
                continue
            others = len(client.topics) + len(client.awaited) - (name in client.awaited)
            if self._max_topics and others >= self._max_topics:
                raise BadMessage("too-many-topics", f"A connection may subscribe to {self._max_topics} topics.")
            if self._is_full(name):
                self._waiting.setdefault(name, {})[client] = None
                client.awaited.add(name)
                full = True
            else:
                self._stop_waiting(client, name)
                self.topics.setdefault(name, set()).add(client)
                client.topics.add(name)
        if full:
            raise self._full()

    def unsubscribe(self, client: Client, names: Iterable[str]) -> list[Effect]:
        """Unsubscribe a client from topics, and stop waiting for them; return the closes of clients that waited."""
        effects: list[Effect] = []
        for name in names:
            self._stop_waiting(client, name)
            if name in client.topics:
                client.topics.discard(name)
                subscribers = self.topics[name]
                subscribers.discard(client)
                if not subscribers:
                    del self.topics[name]
                first = next(iter(self._waiting.get(name, ())), None)
                if first is not None:
                    effects += self.close_if_free(first)
        return effects

    def close_if_free(self, client: Client) -> list[Effect]:
        """Close a client if a full topic that it waits for has room again.

        y-webrtc calls the other peers of a topic only when it connects, so a later subscription would not help it. It
        connects again after a close. A client that is in a room too is not y-webrtc.
        """
        if client.room is None and any(not self._is_full(name) for name in client.awaited):
            return [Close(client, 1013, "A full topic has room again. Connect again.", "topic-has-room")]
        return []

    def publish(self, client: Client, topic: str, message: bytes) -> tuple[Collection[Client], bytes]:
        """Return the receivers of a published message, and the message for them.

        Args:
            client: the publisher.
            topic: the name of the topic.
            message: the bytes of the `publish`, which are valid JSON.

        Returns:
            the subscribers of the topic, with the publisher if it is one of them, and the message with their number
            in ``clients``. The field is appended to the text: JSON parsers use the last of two equal keys.

        Raises:
            BadMessage: `room-full`, if the topic is full and the publisher is not subscribed. It would not receive
                the answers of the others, and y-webrtc waits without end for a peer that it has answered.
        """
        subscribers = self.topics.get(topic, ())
        if self._is_full(topic) and client not in subscribers:
            raise self._full()
        return subscribers, b'%b,"clients":%d}' % (message.rstrip()[:-1], len(subscribers))

    def forget(self, client: Client) -> list[Effect]:
        """Unsubscribe a client from all topics; return the closes of clients that waited for them."""
        return self.unsubscribe(client, [*client.topics, *client.awaited])

    def _is_full(self, name: str) -> bool:
        return bool(self._max_size) and len(self.topics.get(name, ())) >= self._max_size

    def _stop_waiting(self, client: Client, name: str) -> None:
        if name in client.awaited:
            client.awaited.discard(name)
            waiting = self._waiting[name]
            del waiting[client]
            if not waiting:
                del self._waiting[name]

    def _full(self) -> BadMessage:
        return BadMessage("room-full", f"The topic is full: its limit of subscribers is {self._max_size}.")
