"""The settings of the signaling server."""

from typing import Annotated

from msgspec import Meta

from .edge.settings import EdgeSettings


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """The settings; each is an environment variable of the same name in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on. 0 takes any free port.")] = 4444
    max_room_size: Annotated[
        int, Meta(ge=0, description="Peers in one room, and subscribers of one y-webrtc topic. 0 means no limit.")
    ] = 20
    max_topics: Annotated[
        int, Meta(ge=0, description="y-webrtc topics that one connection may subscribe to. 0 means no limit.")
    ] = 100
    max_message_size: Annotated[
        int,
        Meta(ge=0, description="Bytes of one message. A larger one closes the connection with 1009. 0 means no limit."),
    ] = 65_536
    invites_per_hour: Annotated[
        int,
        Meta(
            ge=0,
            description="Invites that one user may send in an hour. One address may send ten times as many. 0 means "
            "no limit.",
        ),
    ] = 50
    resume_grace: Annotated[
        int,
        Meta(
            ge=0,
            description="Milliseconds for which a peer that can resume keeps its place after its connection is lost. "
            "0 means none.",
        ),
    ] = 10_000
    redis_url: Annotated[
        str,
        Meta(
            description="Redis or Valkey that several instances share: `redis://host:6379/0`, or "
            "`rediss://user:password@host:6379/0` with TLS. Empty means one instance, with everything in memory. "
            "Requires the extra `redis`."
        ),
    ] = ""
    stun_urls: Annotated[
        str,
        Meta(description="STUN servers for WebRTC, as `stun:` or `stuns:` URLs separated by commas. Empty means none."),
    ] = ""
    turn_urls: Annotated[
        str,
        Meta(
            description="TURN servers that relay WebRTC where no direct connection is possible, as `turn:` or "
            "`turns:` URLs separated by commas. Empty means none."
        ),
    ] = ""
    turn_secret: Annotated[
        str,
        Meta(
            description="The TURN servers' `static-auth-secret` of at least 16 characters. Required with `TURN_URLS`."
        ),
    ] = ""
    turn_ttl: Annotated[
        int,
        # A larger value would not fit into a date; nobody needs more than a year.
        Meta(ge=60, le=31_536_000, description="Seconds for which TURN credentials can open a relay."),
    ] = 43_200
