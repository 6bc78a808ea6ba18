"""Asks the three servers of `make up` how they are and has each carry one message: `round_trip.py EARLIER... NEW`.

The arguments name documents. The last one is written, the others have to be there from earlier runs.
"""

import http.client
import json
import sys
import time
from typing import Any

from websockets.sync.client import ClientConnection, connect

INSERTION = bytes.fromhex("0101010004010174017800")  # a Yjs update: client 1 writes "x" into the text "t"
STEP_1 = bytes.fromhex("00000100")  # the y-protocols question for all of a document


def wait_for_health(port: int) -> None:
    """Wait until a server says that it is well, for a minute at most."""
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("localhost", port, timeout=10)
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


def receive(client: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next JSON message of a type."""
    while (message := json.loads(client.recv(10)))["type"] != kind:
        assert message["type"] != "error", message
    return dict(message)


def check_signaling() -> None:
    """Two peers meet."""
    with connect("ws://localhost:4444") as ann, connect("ws://localhost:4444") as bob:
        for name, peer in ("ann", ann), ("bob", bob):
            peer.send(json.dumps({"type": "join", "room": "r", "peerId": name, "userId": name}))
            receive(peer, "joined")
        assert receive(ann, "peer-joined")["peerId"] == "bob"


def check_sync(documents: list[str]) -> None:
    """A document is written, and those of earlier runs are read."""
    with connect(f"ws://localhost:4445/{documents[-1]}") as writer:
        writer.send(bytes([0, 2, len(INSERTION)]) + INSERTION)
    for document in documents:
        with connect(f"ws://localhost:4445/{document}") as reader:
            reader.send(STEP_1)
            answer = bytes([0, 1, len(INSERTION)]) + INSERTION
            while reader.recv(10) != answer:
                pass


def check_notification() -> None:
    """A user is told what another one sends."""
    with connect("ws://localhost:4446") as ann, connect("ws://localhost:4446") as bob:
        for name, user in ("ann", ann), ("bob", bob):
            user.send(json.dumps({"type": "authenticate", "userId": name}))
            receive(user, "authenticated")
        ann.send(json.dumps({"type": "mention", "targetUserId": "bob", "data": {"text": "Look!"}}))
        assert receive(bob, "notification")["notification"]["data"] == {"text": "Look!"}


if __name__ == "__main__":
    for port in (4444, 4445, 4446):
        wait_for_health(port)
    check_signaling()
    check_sync(sys.argv[1:])
    check_notification()
