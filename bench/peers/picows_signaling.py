"""A minimal signaling server on picows, a WebSocket library in C: the practical limit of Python."""

import os
from typing import Any

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
rooms: dict[str, dict[str, "Connection"]] = {}
topics: dict[str, set["Connection"]] = {}


class Connection(WSListener):
    """One connection."""

    room = peer = ""
    about: dict[str, Any]
    transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle one message."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            message = decode(frame.get_payload_as_memoryview())
            getattr(self, message["type"])(message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Be gone."""
        room = rooms.get(self.room)
        if room is not None and room.pop(self.peer, None) is not None:
            for other in room.values():
                other.tell({"type": "peer-left", "peerId": self.peer})
            if not room:
                del rooms[self.room]
        for subscribers in topics.values():
            subscribers.discard(self)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.transport.send(WSMsgType.TEXT, encode(message))

    def join(self, message: dict[str, Any]) -> None:
        """Enter a room."""
        self.room, self.peer = message["room"], message["peerId"]
        self.about = {name: message[name] for name in ("peerId", "userId", "metadata")}
        room = rooms.setdefault(self.room, {})
        self.tell({"type": "joined", "room": self.room, "peers": [other.about for other in room.values()]})
        for other in room.values():
            other.tell({"type": "peer-joined", **self.about})
        room[self.peer] = self

    def signal(self, message: dict[str, Any]) -> None:
        """Pass a signal on."""
        rooms[self.room][message["to"]].tell({"type": "signal", "from": self.peer, "signal": message["signal"]})

    def subscribe(self, message: dict[str, Any]) -> None:
        """Listen to topics."""
        for topic in message["topics"]:
            topics.setdefault(topic, set()).add(self)

    def publish(self, message: dict[str, Any]) -> None:
        """Pass a message on to all who listen."""
        subscribers = topics[message["topic"]]
        content = encode({**message, "clients": len(subscribers)})
        for other in subscribers:
            other.transport.send(WSMsgType.TEXT, content)

    def ping(self, _message: dict[str, Any]) -> None:
        """Answer."""
        self.tell({"type": "pong"})


async def main() -> None:
    """Serve until the process is ended."""

    def listener(_request: WSUpgradeRequest) -> Connection:
        return Connection()

    server = await ws_create_server(listener, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
