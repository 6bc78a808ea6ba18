"""The settings of the sync server."""

from typing import Annotated, Literal

from msgspec import Meta

from .edge.settings import EdgeSettings


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """What can be set, by environment variables of the same names in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = 4445
    persist_dir: Annotated[
        str, Meta(min_length=1, description="Directory of the documents: a LevelDB in y-leveldb's format.")
    ] = "./data"
    enable_persistence: Annotated[
        bool, Meta(description="Whether documents are kept on disk; if not, a document that nobody opens is gone.")
    ] = True
    fsync: Annotated[
        Literal["every-second", "true", "false"],
        Meta(
            description="When a change is on the disk itself, safe from a power cut: `true` before it is shown and "
            "acknowledged, `every-second` about a second later without anybody waiting, `false` when the operating "
            "system writes it. In each case it is safe from the end of this process before it is shown."
        ),
    ] = "every-second"
    max_rooms: Annotated[
        int,
        Meta(
            ge=0,
            description="Documents in memory at once. Beyond them the one that was left first makes place; if all are "
            "in use, one more is refused with 1013. 0 means no limit.",
        ),
    ] = 5_000
    max_room_size: Annotated[
        int, Meta(ge=0, description="Clients in one room; one more is refused with 1013. 0 means no limit.")
    ] = 500
    max_document_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of a document; who makes it larger is closed with 1009. 0 means no limit.",
        ),
    ] = 67_108_864
    max_memory: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes that documents in memory and output that clients have not read yet may take together; "
            "see Memory below. 0 means half of the memory that the machine, or its cgroup, has beyond 96 MiB.",
        ),
    ] = 0
    room_idle_timeout: Annotated[
        int, Meta(ge=0, description="Milliseconds that a room stays in memory after its last client has left.")
    ] = 30_000
    max_message_size: Annotated[
        int,
        Meta(ge=0, description="Bytes of the largest message; a larger one closes with 1009. 0 means no limit."),
    ] = 16_777_216
    rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages a second that one connection may send, with ten seconds' worth saved up; "
            "beyond them it is read more slowly, and nothing is lost. 0 means no limit.",
        ),
    ] = 500
    byte_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of messages a second that one connection may send, with ten seconds' worth saved up, "
            "or one message of the largest size; beyond them it is read more slowly, and nothing is lost. 0 means no "
            "limit.",
        ),
    ] = 2_097_152
    slow_client_buffer: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes waiting for a client that does not read; beyond them it is skipped, and brought up "
            "to date with one message when it has read them. 0 means no limit.",
        ),
    ] = 1_048_576
    webhook_url: Annotated[
        str,
        Meta(description="An http:// or https:// URL that is told which documents changed. Empty for none."),
    ] = ""
    webhook_secret: Annotated[
        str, Meta(description="What signs these posts, in 16 characters or more; needed with `WEBHOOK_URL`.")
    ] = ""
    webhook_debounce: Annotated[
        int,
        Meta(
            ge=0,
            description="Milliseconds that a document must be at rest before its change is posted; one under "
            "constant change is posted at least every ten times that.",
        ),
    ] = 2_000
