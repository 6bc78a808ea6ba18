"""Announcements: messages to the peers of a room about another peer.

`announce` sends such a message and logs it for peers that can resume, in one step. A message that is not logged would
be lost at the next resumption.
"""

from __future__ import annotations

from collections.abc import Collection

from ..messages import PeerInfo, PeerJoined, PeerLeft, PeerUpdated
from .model import Client, Effect, Room, Send
from .unacknowledged import CountedMessage


def arrival(client: Client) -> PeerJoined:
    """Return the `peer-joined` about a client."""
    info = client.info
    return PeerJoined(info.peer_id, info.user_id, info.metadata)


def departure(room: Room, client: Client, peer_id: str) -> list[Effect]:
    """Send all peers of a room, except for a client, that the peer with an id has left."""
    for peer in room.peers.values():
        if peer.absent is not None:
            peer.absent.forget(peer_id)
    return announce(room.others(client), PeerLeft(peer_id))


def change(room: Room, client: Client, before: PeerInfo) -> list[Effect]:
    """Send the other peers the metadata of a client, if it has changed.

    This is not recorded: a peer that misses it finds the newest metadata in its next `joined`.

    Args:
        room: the room of the client.
        client: the client, with its new metadata.
        before: its data before the change.
    """
    info, others = client.info, room.others(client)
    if not others or bytes(info.metadata) == bytes(before.metadata):
        return []
    return [Send(others, PeerUpdated(info.peer_id, info.user_id, info.metadata))]


def announce(peers: Collection[Client], message: CountedMessage) -> list[Effect]:
    """Send a message about their room to peers, and log it for those that can resume."""
    for peer in peers:
        if peer.resumption is not None:
            peer.resumption.log_message(message)
    return [Send(peers, message)] if peers else []
