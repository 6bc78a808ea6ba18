"""Topics: y-webrtc's publish and subscribe. Knows no socket.

A topic exists while somebody is subscribed to it, and has nothing to do with a room of the same name.
Source of the dialect: y-webrtc 10.3, ``bin/server.js`` and ``src/y-webrtc.js``.
"""

from collections.abc import Collection, Iterable
from itertools import islice

from .edge.errors import BadMessage
from .rooms.model import Client, Close, Effect


class Topics:
    """All topics of this process.

    Args:
        max_size: subscribers of a topic; 0 means any number.
        max_topics: topics of one client; 0 means any number.
    """

    def __init__(self, max_size: int, max_topics: int) -> None:
        self.topics: dict[str, set[Client]] = {}
        self._waiting: dict[str, dict[Client, None]] = {}
        self._max_size = max_size
        self._max_topics = max_topics

    def wanted(self, client: Client, names: Iterable[str]) -> Iterable[str]:
        """Return the topics among `names` that the client is not subscribed to, and for which it has room."""
        new = (name for name in dict.fromkeys(names) if name not in client.topics)
        return islice(new, self._max_topics - len(client.topics)) if self._max_topics else new

    def subscribe(self, client: Client, names: Iterable[str]) -> None:
        """Subscribe to topics; subscribing again changes nothing. The client waits for those that are full.

        Raises:
            BadMessage: `room-full`, with all other topics subscribed; or `too-many-topics`, with those before.
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
                self._wait_no_more(client, name)
                self.topics.setdefault(name, set()).add(client)
                client.topics.add(name)
        if full:
            raise self._full()

    def unsubscribe(self, client: Client, names: Iterable[str]) -> list[Effect]:
        """Unsubscribe from those of the topics that the client is subscribed to, and wait for none of them."""
        effects: list[Effect] = []
        for name in names:
            self._wait_no_more(client, name)
            if name in client.topics:
                client.topics.discard(name)
                subscribers = self.topics[name]
                subscribers.discard(client)
                if not subscribers:
                    del self.topics[name]
                first = next(iter(self._waiting.get(name, ())), None)
                if first is not None:
                    effects += self.look_again(first)
        return effects

    def look_again(self, client: Client) -> list[Effect]:
        """Close a client if a topic has room now that it was refused.

        y-webrtc calls the others of a topic only when it connects, so a later subscription would be of no use to it.
        When it is closed it connects again by itself. A client that is in a room too is none of y-webrtc's.
        """
        if client.room is None and any(not self._is_full(name) for name in client.awaited):
            return [Close(client, 1013, "A full topic has room again. Connect again.", "topic-has-room")]
        return []

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
        if self._is_full(topic) and client not in subscribers:
            raise self._full()
        return subscribers, b'%b,"clients":%d}' % (message.rstrip()[:-1], len(subscribers))

    def forget(self, client: Client) -> list[Effect]:
        """Unsubscribe from everything."""
        return self.unsubscribe(client, [*client.topics, *client.awaited])

    def _is_full(self, name: str) -> bool:
        return bool(self._max_size) and len(self.topics.get(name, ())) >= self._max_size

    def _wait_no_more(self, client: Client, name: str) -> None:
        if name in client.awaited:
            client.awaited.discard(name)
            waiting = self._waiting[name]
            del waiting[client]
            if not waiting:
                del self._waiting[name]

    def _full(self) -> BadMessage:
        return BadMessage("room-full", f"The topic is full: it may have {self._max_size} subscribers.")
