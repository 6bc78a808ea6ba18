"""A minimal server for the open loop: it passes every frame on to the room, unread and unmerged.

It is written on picows, whose frames are made in C. What it needs is what the sending itself costs.
"""

import os

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

STEP_1, NOTHING = b"\x00\x00", b"\x00\x01\x02\x00\x00"
"""How the first message of a client begins, and the answer to it: an empty document."""
rooms: dict[bytes, set[WSTransport]] = {}


class Connection(WSListener):
    """One connection."""

    def __init__(self, path: bytes) -> None:
        self.room = rooms.setdefault(path, set())

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Enter the room."""
        self.room.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a message on to all, its sender too."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        if payload.startswith(STEP_1):
            transport.send(WSMsgType.BINARY, NOTHING)
        else:
            for other in self.room:
                other.send(WSMsgType.BINARY, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the room."""
        self.room.discard(transport)


async def main() -> None:
    """Serve until the process is ended."""

    def listener(request: WSUpgradeRequest) -> Connection:
        return Connection(bytes(request.path))

    server = await ws_create_server(listener, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
