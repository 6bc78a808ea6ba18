"""The settings of the sync server."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from .edge.settings import EdgeSettings, SettingError
from .versions.schedule import Schedule, parse

DATABASES = "accepted is postgresql://user:password@host/name"
"""The accepted form of `DATABASE_URL`, for error messages."""

MIN_SECRET = 32
"""Characters that `CLUSTER_SECRET` must have."""
PATH = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)
"""A path that no proxy rewrites, since it has only unreserved characters (RFC 3986, 2.3)."""


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """The settings; each is an environment variable of the same name in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on. 0 takes any free port.")] = 4445
    persist_dir: Annotated[
        str, Meta(min_length=1, description="Directory of the documents: a LevelDB database in y-leveldb's format.")
    ] = "./data"
    path_prefix: Annotated[
        str,
        Meta(
            description="Part of the path before the room's name, such as `/sync`, for a proxy that does not remove "
            "it. A handshake on another path is answered with 404. Empty means none."
        ),
    ] = ""
    database_url: Annotated[
        str,
        Meta(
            description="PostgreSQL database of the documents in place of `PERSIST_DIR`: "
            "`postgresql://user:password@host/name`. Several instances can use it at the same time. "
            "Requires the extra `postgresql`."
        ),
    ] = ""
    instance_url: Annotated[
        str,
        Meta(
            description="ws:// or wss:// URL at which other instances on the same `DATABASE_URL` reach this one. "
            "Empty means `HOST` if that is one address, otherwise the address from which the database "
            "sees this instance, and the port."
        ),
    ] = ""
    cluster_secret: Annotated[
        str,
        Meta(
            description="Secret of at least 32 characters, the same for all instances on one `DATABASE_URL`. With it, "
            "an instance passes on a connection for a document that another instance has open. Empty "
            "means that such a connection is closed with 1013."
        ),
    ] = ""
    enable_persistence: Annotated[
        bool, Meta(description="Store documents. With `false`, a document is lost when it leaves memory.")
    ] = True
    fsync: Annotated[
        Literal["every-second", "true", "false"],
        Meta(
            description="When a change is safe from a power cut: `true` before other clients see it and before it is "
            "acknowledged, `every-second` about one second later, `false` when the operating system "
            "writes it. With each value, a change survives a crash of this process before other clients "
            "see it. In PostgreSQL, `true` waits for each commit to be on disk; the other values do not, "
            "and a crash of PostgreSQL counts as a power cut."
        ),
    ] = "every-second"
    versions: Annotated[
        str,
        Meta(
            min_length=1,
            description="Versions of a document to keep: `24x1h,30x1d` means 24 versions one hour apart and 30 "
            "versions one day apart (`m`, `h`, `d`). An unchanged document gets no new version. `off` "
            "means none.",
        ),
    ] = "24x1h,30x1d"
    max_versions_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of the versions of all documents. Beyond them, the oldest versions are deleted. 0 "
            "means no limit.",
        ),
    ] = 1_073_741_824
    max_document_versions_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of the versions of one document. Beyond them, the versions closest in time to the next "
            "one are deleted. One version may take a quarter. 0 means no limit.",
        ),
    ] = 67_108_864
    max_rooms: Annotated[
        int,
        Meta(
            ge=0,
            description="Documents in memory. For a further one, the document that has been idle longest leaves "
            "memory. If none is idle, the client is refused with 1013. 0 means no limit.",
        ),
    ] = 5_000
    max_room_size: Annotated[
        int, Meta(ge=0, description="Clients in one room. A further one is refused with 1013. 0 means no limit.")
    ] = 500
    max_document_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of one document. A client whose change would exceed them is closed with 1009. The list "
            "of deletions may have as many bytes again. 0 means no limit.",
        ),
    ] = 67_108_864
    max_memory: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes for documents in memory and for output that clients have not read, together; see "
            "Memory in docs/data.md. 0 means half of the memory that the machine or its cgroup has beyond "
            "128 MiB.",
        ),
    ] = 0
    room_idle_timeout: Annotated[
        int, Meta(ge=0, description="Milliseconds that a document stays in memory after its last client has left.")
    ] = 30_000
    max_message_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of one message. A larger one closes the connection with 1009. A sixteenth of "
            "`MAX_MEMORY`, but no less than 1 MiB, is a limit too. 0 means no other limit.",
        ),
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
            "read them. One message then brings it up to date. 0 means no limit.",
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
            description="Milliseconds without a change until the POST for a document is sent. If changes do not stop, "
            "it is sent after ten times as long.",
        ),
    ] = 2_000

    @property
    def files_per_connection(self) -> int:
        """Open files that one connection can need: one that is passed on has a second one to the other instance."""
        return 2 if self.cluster_secret else 1

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of `VERSIONS`; None if no versions are kept."""
        return parse(self.versions, self.max_document_versions_size)

    def __post_init__(self) -> None:
        """Check the settings that depend on each other or have a form of their own.

        Raises:
            SettingError: two settings contradict each other, or a value is not usable.
        """
        try:
            parse(self.versions, 0)
        except ValueError:
            raise SettingError(
                f"VERSIONS is {self.versions!r}; accepted is a list such as 24x1h,30x1d, or off"
            ) from None
        if self.path_prefix and not PATH.fullmatch(self.path_prefix):
            raise SettingError(
                f"PATH_PREFIX is {self.path_prefix!r}; accepted is a path such as /sync, without a slash at its end"
            )
        if not self.database_url:
            for name in ("instance_url", "cluster_secret"):
                if getattr(self, name):
                    raise SettingError(
                        f"{name.upper()} is set, but DATABASE_URL is not; only instances that share a database use it"
                    )
            return
        if not self.enable_persistence:
            raise SettingError("DATABASE_URL is set, and ENABLE_PERSISTENCE is false; unset one of them")
        if self.cluster_secret and len(self.cluster_secret) < MIN_SECRET:
            raise SettingError(f"CLUSTER_SECRET is too short; accepted are {MIN_SECRET} characters or more")
        if self.instance_url and not _is_websocket_url(self.instance_url):
            raise SettingError("INSTANCE_URL is not usable; accepted is ws://host:port or wss://host:port")
        if self.cluster_secret and self.tls_cert and not self.instance_url:
            raise SettingError(
                "TLS_CERT and CLUSTER_SECRET are set, and INSTANCE_URL is not; set it to a wss:// URL with a name of "
                "the certificate"
            )


def _is_websocket_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        return False
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    return sound and bare and parts.scheme in ("ws", "wss") and bool(parts.hostname)
