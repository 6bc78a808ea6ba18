"""The settings of the signaling server."""

from typing import Annotated

from msgspec import Meta

from .edge.settings import EdgeSettings


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """What can be set, by environment variables of the same names in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = 4444
    max_room_size: Annotated[
        int, Meta(ge=0, description="Peers in one room, and subscribers of one y-webrtc topic. 0 means no limit.")
    ] = 20
    max_topics: Annotated[
        int, Meta(ge=0, description="y-webrtc topics that one connection may subscribe to. 0 means no limit.")
    ] = 100
    max_message_size: Annotated[
        int,
        Meta(ge=0, description="Bytes of the largest message; a larger one closes with 1009. 0 means no limit."),
    ] = 65_536
    invites_per_hour: Annotated[
        int, Meta(ge=0, description="Invites that one user may send in an hour. 0 means no limit.")
    ] = 50
