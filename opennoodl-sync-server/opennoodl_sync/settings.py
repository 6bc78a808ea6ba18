"""The settings of the sync server."""

from typing import Annotated, Literal

from msgspec import Meta

from .edge.settings import EdgeSettings


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """What can be set, by environment variables of the same names in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on. 0 takes any free port.")] = 4445
    persist_dir: Annotated[
        str, Meta(min_length=1, description="Directory of the documents: a LevelDB database in y-leveldb's format.")
    ] = "./data"
    path_prefix: Annotated[
        str,
        Meta(
            description="Path that stands before the name of every room, such as `/sync`, for a proxy that does not "
            "remove it. A handshake on another path is answered with 404. Empty means none."
        ),
    ] = ""
    enable_persistence: Annotated[
        bool, Meta(description="Store documents on disk. With `false`, a document is lost when it leaves memory.")
    ] = True
    fsync: Annotated[
        Literal["every-second", "true", "false"],
        Meta(
            description="When a change is safe from a power cut: `true` before other clients see it and before it is "
            "acknowledged, `every-second` about one second later, `false` when the operating system "
            "writes it. With each value, a change survives a crash of this process before other clients "
            "see it."
        ),
    ] = "every-second"
    max_rooms: Annotated[
        int,
        Meta(
            ge=0,
            description="Documents in memory. A further one takes the place of the idle one that was left first. If "
            "none is idle, the client is refused with 1013. 0 means no limit.",
        ),
    ] = 5_000
    max_room_size: Annotated[
        int, Meta(ge=0, description="Clients in one room. A further one is refused with 1013. 0 means no limit.")
    ] = 500
    max_document_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of one document. A client whose change would exceed them is closed with 1009. The "
            "deletions alone may have as many. 0 means no limit.",
        ),
    ] = 67_108_864
    max_memory: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes for documents in memory and for output that clients have not read, together; see "
            "Memory in docs/data.md. 0 means half of the memory that the machine or its cgroup has beyond "
            "96 MiB.",
        ),
    ] = 0
    room_idle_timeout: Annotated[
        int, Meta(ge=0, description="Milliseconds that a document stays in memory after its last client has left.")
    ] = 30_000
    max_message_size: Annotated[
        int,
        Meta(ge=0, description="Bytes of one message. A larger one closes the connection with 1009. 0 means no limit."),
    ] = 16_777_216
    rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages a second from one connection, with a burst of ten seconds. Beyond it the server "
            "reads the connection more slowly; no message is lost. 0 means no limit.",
        ),
    ] = 500
    byte_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of messages a second from one connection, with a burst of ten seconds or of one "
            "message of the largest size. Beyond it the server reads the connection more slowly; no "
            "message is lost. 0 means no limit.",
        ),
    ] = 2_097_152
    slow_client_buffer: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of output that a client has not read. A client with more gets no updates until it has "
            "read them; one message then brings it up to date. 0 means no limit.",
        ),
    ] = 1_048_576
    webhook_url: Annotated[
        str,
        Meta(
            description="An http:// or https:// URL that gets a POST for each document that changed. Empty means none."
        ),
    ] = ""
    webhook_secret: Annotated[
        str, Meta(description="Secret of at least 16 characters that signs the posts. Required with `WEBHOOK_URL`.")
    ] = ""
    webhook_debounce: Annotated[
        int,
        Meta(
            ge=0,
            description="Milliseconds without a change before a document is posted. A document that changes all the "
            "time is posted at least every ten times that.",
        ),
    ] = 2_000
