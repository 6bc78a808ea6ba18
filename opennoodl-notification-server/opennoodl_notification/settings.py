"""The settings of the notification server."""

from typing import Annotated

from msgspec import Meta

from .edge.settings import EdgeSettings, SettingError

DATABASES = "accepted are postgresql://user:password@host/name and sqlite:////data/notifications.sqlite"


class Settings(EdgeSettings, frozen=True, kw_only=True):
    """The settings; each is an environment variable of the same name in capitals."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on. 0 takes any free port.")] = 4446
    db_file: Annotated[
        str, Meta(min_length=1, description="JSON file in TinyDB's format that stores the notifications.")
    ] = "./notifications.json"
    database_url: Annotated[
        str,
        Meta(
            description="Database to use in place of `DB_FILE`: `postgresql://user:password@host/name` or "
            "`sqlite:////data/notifications.sqlite`. Requires the extra `sql`."
        ),
    ] = ""
    database_listen_url: Annotated[
        str,
        Meta(
            description="Direct URL of the same PostgreSQL, if `DATABASE_URL` leads to a pooler in transaction mode "
            "such as pgbouncer. Instances use it to tell each other about changes. Empty means "
            "`DATABASE_URL`."
        ),
    ] = ""
    ttl_days: Annotated[
        int,
        Meta(ge=1, le=3650, description="Days until a notification expires. A new value applies to new notifications."),
    ] = 30
    max_per_user: Annotated[
        int,
        Meta(
            ge=0,
            description="Notifications stored for one user. When a new one exceeds them, the oldest read one is "
            "deleted, or else the oldest. 0 means no limit.",
        ),
    ] = 1000
    max_data_size: Annotated[
        int, Meta(ge=0, description="Bytes of a notification's `data`. 0 means no limit except `MAX_MESSAGE_SIZE`.")
    ] = 16_384
    max_connections_per_user: Annotated[
        int,
        Meta(
            ge=0,
            description="Open connections of one user. A further one is refused with `too-many-connections`. 0 means "
            "no limit.",
        ),
    ] = 20
    sends_per_hour: Annotated[
        int,
        Meta(
            ge=0,
            description="Notifications that one user may send in an hour. One address may send ten times as many, one "
            "IPv6 /48 network twenty times as many. 0 means no limit.",
        ),
    ] = 300
    send_bytes_per_hour: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of notifications that one user may send in an hour, counted as for `MAX_STORED_SIZE`. "
            "One address may send twice as many, one IPv6 /48 network four times as many. 0 means no limit.",
        ),
    ] = 2_097_152
    max_stored_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of all stored data. Beyond them, sending is refused with `storage-full`. A "
            "notification counts as its `data`, its two user ids and 768 bytes. The `data` of a message to several "
            "users counts once. 0 means no limit.",
        ),
    ] = 67_108_864
    max_message_size: Annotated[
        int,
        Meta(ge=0, description="Bytes of one message. A larger one closes the connection with 1009. 0 means no limit."),
    ] = 65_536

    @property
    def place(self) -> str:
        """Return the place of the notifications: the URL of a database, or the path of a file.

        Raises:
            SettingError: DATABASE_URL is not a URL. As a file name it would hide the notifications.
        """
        if self.database_url and "://" not in self.database_url:
            raise SettingError(f"DATABASE_URL cannot be read; {DATABASES}")
        return self.database_url or self.db_file
