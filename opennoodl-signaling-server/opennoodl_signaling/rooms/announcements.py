"""Announcements: what the peers of a room are told about each other.

`tell` sends such a message and records it for those that can resume, in one step: a message that is sent and not
recorded would be lost at the next resumption.
"""

from __future__ import annotations

from collections.abc import Collection

from ..messages import PeerInfo, PeerJoined, PeerLeft, PeerUpdated
from .model import Client, Effect, Room, Send
from .unacknowledged import Told


def arrival(client: Client) -> PeerJoined:
    """Return the message that a peer has come."""
    info = client.info
    return PeerJoined(info.peer_id, info.user_id, info.metadata)


def departure(room: Room, client: Client, peer_id: str) -> list[Effect]:
    """Tell everybody in the room but this client that a peer has left."""
    for peer in room.peers.values():
        if peer.absent is not None:
            peer.absent.forget(peer_id)
    return tell(room.others(client), PeerLeft(peer_id))


def change(room: Room, client: Client, before: PeerInfo) -> list[Effect]:
    """Tell the others of a peer's metadata, unless it is as before.

    Nothing is recorded: a peer that misses it finds the newest metadata in its next `joined`.
    """
    info, others = client.info, room.others(client)
    if not others or bytes(info.metadata) == bytes(before.metadata):
        return []
    return [Send(others, PeerUpdated(info.peer_id, info.user_id, info.metadata))]


def tell(peers: Collection[Client], message: Told) -> list[Effect]:
    """Send peers a message about their room, and record it for those that can resume."""
    for peer in peers:
        if peer.resumption is not None:
            peer.resumption.told(message)
    return [Send(peers, message)] if peers else []
