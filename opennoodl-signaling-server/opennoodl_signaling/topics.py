"""Topics: y-webrtc's publish and subscribe. Knows no socket.

A topic exists while somebody is subscribed to it, and has nothing to do with a room of the same name.
Source of the dialect: y-webrtc 10.3, ``bin/server.js`` and ``src/y-webrtc.js``.
"""

from collections.abc import Collection

from .edge.json_messages import BadMessage
from .room import Client


class Topics:
    """All topics of this process.

    Args:
        max_size: subscribers of a topic; 0 means any number.
        max_topics: topics of one client; 0 means any number.
    """

    def __init__(self, max_size: int, max_topics: int) -> None:
        self.topics: dict[str, set[Client]] = {}
        self._max_size = max_size
        self._max_topics = max_topics

    def subscribe(self, client: Client, names: Collection[str]) -> None:
        """Subscribe to topics; subscribing again changes nothing.

        Raises:
            BadMessage: `room-full` or `too-many-topics`; topics before the refused one are subscribed.
        """
        for name in names:
            if name in client.topics:
                continue
            if self._max_topics and len(client.topics) >= self._max_topics:
                raise BadMessage("too-many-topics", f"A connection may subscribe to {self._max_topics} topics.")
            subscribers = self.topics.get(name, set())
            if self._max_size and len(subscribers) >= self._max_size:
                raise self._full()
            self.topics.setdefault(name, subscribers).add(client)
            client.topics.add(name)

    def unsubscribe(self, client: Client, names: Collection[str]) -> None:
        """Unsubscribe from those of the topics that the client is subscribed to."""
        for name in names:
            if name in client.topics:
                client.topics.discard(name)
                subscribers = self.topics[name]
                subscribers.discard(client)
                if not subscribers:
                    del self.topics[name]

    def publish(self, client: Client, topic: str, message: bytes) -> tuple[Collection[Client], bytes]:
        """Return the topic's subscribers, the publisher included if it is one, and what they get.

        Args:
            client: the publisher.
            topic: its name.
            message: the whole `publish`, as it came; it has passed a JSON decoder.

        Returns:
            the receivers, and the message with ``clients``, their number, added. The text is spliced, not
            encoded again: of two equal keys JSON readers keep the last.

        Raises:
            BadMessage: `room-full`: who found no place calls nobody. What is answered would not reach it, and
                y-webrtc waits for ever for whom it has once answered.
        """
        subscribers = self.topics.get(topic, ())
        if self._max_size and len(subscribers) >= self._max_size and client not in subscribers:
            raise self._full()
        return subscribers, b'%b,"clients":%d}' % (message.rstrip()[:-1], len(subscribers))

    def _full(self) -> BadMessage:
        return BadMessage("room-full", f"The topic is full: it may have {self._max_size} subscribers.")

    def forget(self, client: Client) -> None:
        """Unsubscribe from everything."""
        self.unsubscribe(client, list(client.topics))
