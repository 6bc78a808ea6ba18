"""The operator's commands: send, show, count, copy, export and erase."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct, field
from tqdm import tqdm
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from . import personal_data, wrong_clock
from .edge.command_line import CommandError, counted
from .inbox.store import Counts, Query, Store, StoreError
from .migrate import Migration, MigrationError
from .personal_data import Person, find
from .records import Record, timestamp
from .storage.choose import choose, same
from .storage.paths import named

TIMEOUT = 10.0
"""Time limit in seconds for an answer of a server."""
MAX_REASON = 200
"""Largest number of characters of a response that are shown as the reason of a refusal."""
SQLITE = b"SQLite format 3\0"
"""The first bytes of a SQLite database."""
NOT_PLAIN = re.compile(r"[^ -~]")
"""Any character but printable ASCII; in JSON, these occur in strings only."""


class Proof(NamedTuple):
    """The authentication of a sender.

    Attributes:
        token: the token, or None.
        hint: advice for the case that the server does not accept it.
    """

    token: str | None
    hint: str


def send(url: str, sender: str, proof: Proof, data: str, **fields: Any) -> list[str]:
    """Send a notification through a running server; return its ids.

    Args:
        url: the URL of the server, ``ws://`` or ``wss://``.
        sender: the user who sends.
        proof: the authentication of the sender.
        data: the data of the notification, in JSON.
        fields: the other fields of `send-notification`.

    Raises:
        CommandError: it was not sent.
    """
    try:
        content = Raw(msgspec.json.encode(msgspec.json.decode(data, type=Raw)))
    except msgspec.DecodeError as error:
        raise CommandError(f"the data is not JSON: {error}") from None
    try:
        parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise CommandError(f"{url} is not the URL of a server: {error}") from None
    try:
        with connect(url, open_timeout=TIMEOUT, proxy=None) as server:
            hello = {"type": "authenticate", "userId": sender, "token": proof.token}
            _ask(server, hello, "authenticated", {"unauthorized": f"; {proof.hint}"})
            sent = _ask(server, {"type": "send-notification", "data": content, **fields}, "notification-sent")
    except TimeoutError:
        raise CommandError(f"{url} does not answer") from None
    except InvalidStatus as refused:
        raise CommandError(f"{url} refuses the connection: {_reason(refused)}") from None
    except (InvalidHandshake, msgspec.DecodeError) as error:
        raise CommandError(f"{url} is not a notification server: {error}") from None
    except (OSError, WebSocketException) as error:
        raise CommandError(f"{url} cannot be reached: {error}") from None
    return sent.ids


def _reason(refused: InvalidStatus) -> str:
    """Return the sentence in the response to a refused handshake; the status if there is no sentence."""
    text = refused.response.body.decode(errors="replace").strip()
    return text if text.isprintable() and 0 < len(text) <= MAX_REASON else f"HTTP {refused.response.status_code}"


class Answer(Struct):
    """The fields of a server's message that are necessary here; the data of notifications is not decoded."""

    type: str
    error: str = ""
    code: str = ""
    ids: list[str] = field(default_factory=list, name="notificationIds")


def _ask(
    server: ClientConnection, message: dict[str, Any], answer: str, hints: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    """Send a message; return the answer of type `answer`.

    Raises:
        CommandError: the server refuses; `hints` has additions to the text by error code.
    """
    server.send(msgspec.json.encode(message), text=True)
    while True:
        came = msgspec.json.decode(server.recv(timeout=TIMEOUT), type=Answer)
        if came.type == "error":
            raise CommandError(f"the server refuses: {came.error} ({came.code}){hints.get(came.code, '')}")
        if came.type == answer:
            return came


def inbox(place: str, user: str, query: Query) -> Iterable[str]:
    """Return a line for each notification of a user, newest first. A server may use the store.

    Raises:
        CommandError: the store failed.
        StartError: the store cannot be opened.
    """

    async def read() -> list[Record]:
        async with _opened(place, read_only=True) as store:
            return await store.page(user, query, timestamp(int(time() * 1000)))

    return [_line(record) for record in asyncio.run(read())]


def stats(place: str) -> Counts:
    """Return the numbers of stored records. A server may use the store.

    Raises:
        CommandError: the store failed.
        StartError: the store cannot be opened.
    """

    async def count() -> Counts:
        async with _opened(place, read_only=True) as store:
            return await store.counts()

    return asyncio.run(count())


def export(place: str, user: str) -> bytes:
    """Return the records of a user as JSON. A server may use the store.

    Raises:
        CommandError: there are no records of this user, or the store failed.
        StartError: the store cannot be opened.
    """

    async def look() -> Person:
        async with _opened(place, read_only=True) as store:
            return await find(store, user)

    return msgspec.json.format(msgspec.json.encode(_known(asyncio.run(look())))) + b"\n"


def erase(place: str, user: str, ttl_days: int) -> str:
    """Erase the records of a user; return a line with their numbers.

    Args:
        place: the place of the store.
        user: the user.
        ttl_days: days until the emptied inbox is deleted.

    Raises:
        CommandError: there are no records of this user, or the store failed.
        StartError: the store cannot be opened, for example because a server has locked it.
    """

    async def find_and_erase() -> Person:
        async with _opened(place) as store:
            person = _known(await find(store, user))
            await personal_data.erase(store, person, ttl_days)
            return person

    person = asyncio.run(find_and_erase())
    return (
        f"erased: {counted(len(person.received), 'notification')} received and {len(person.sent)} sent, "
        f"{counted(len(person.deleted), 'deletion')} and {counted(len(person.idempotency_keys), 'idempotency key')}"
    )


def contents(notifications: int, inboxes: int) -> str:
    """Return the size of a store in words."""
    return f"{counted(notifications, 'notification')} in {counted(inboxes, 'inbox', 'inboxes')}"


def redate(place: str, ttl_days: int) -> str:
    """Correct dates in the future, which a wrong clock has set; return a line with the numbers of records.

    Args:
        place: the place of the store.
        ttl_days: days until a notification expires.

    Raises:
        CommandError: the store failed.
        StartError: the store cannot be opened, for example because a server has locked it.
    """

    async def find_and_redate() -> tuple[int, int]:
        async with _opened(place) as store:
            return await wrong_clock.redate(store, ttl_days)

    notifications, inboxes = asyncio.run(find_and_redate())
    return f"redated: {contents(notifications, inboxes)}"


def _known(person: Person) -> Person:
    if not person:
        raise CommandError(f"no data of user {person.user_id!r} is stored")
    return person


def back_up(place: str, file: str) -> Counts:
    """Copy a store to a new file, also while a server uses it; return the numbers of copied records.

    Raises:
        CommandError: the copy could not be written.
        StartError: the store or the copy cannot be opened.
    """
    path = named(file, file)
    if path.exists():
        raise CommandError(f"{file} exists already; name a new file")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"the directory of {file} does not exist")

    async def copy() -> None:
        async with _opened(place, read_only=True) as store:
            await store.back_up(path)

    asyncio.run(copy())
    return stats(_place_of(path))


def restore(place: str, file: str) -> Counts:
    """Copy a backup to an empty store that no server uses; return the numbers of copied records.

    Raises:
        CommandError: the store is not empty, or failed.
        StartError: the backup or the store cannot be opened.
    """
    return migrate(_place_of(named(file, file)), place, read_only=True)


def _place_of(path: Path) -> str:
    """Return the place of a backup, as `choose` expects it."""
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    return f"sqlite:///{path.absolute()}" if is_sqlite else str(path)


def migrate(source: str, target: str, *, read_only: bool = False) -> Counts:
    """Copy all records of one store to another, and show the progress; return their numbers.

    Args:
        source: the place of the source.
        target: the place of the target.
        read_only: whether the source may not get a lock file.

    Raises:
        CommandError: it could not be finished; the same command continues it.
        StartError: one of the stores cannot be opened.
    """
    if same(source, target):
        raise CommandError("`--from` and `--to` are the same")
    if "://" not in target and not Path(target).absolute().parent.is_dir():
        raise CommandError(f"the directory of {target} does not exist")

    async def move() -> Counts:
        async with _opened(source, read_only=read_only) as from_, _opened(target, create=True) as to:
            counts = await from_.counts()
            migration = Migration(from_, to)
            with tqdm(total=counts.notifications, unit=" notifications") as bar:
                moving = asyncio.create_task(migration.run())
                while not moving.done():
                    await asyncio.wait([moving], timeout=0.2)
                    bar.update(migration.done - bar.n)
                await moving
            return counts

    return asyncio.run(move())


@asynccontextmanager
async def _opened(place: str, *, create: bool = False, read_only: bool = False) -> AsyncIterator[Store]:
    store = choose(place, create=create, read_only=read_only)
    await store.open()
    try:
        yield store
    except (StoreError, MigrationError) as error:
        raise CommandError(str(error)) from None
    finally:
        await store.close()


def _line(record: Record) -> str:
    """Return a notification as one line; users' texts are JSON in ASCII, so they cannot control the terminal."""
    mark = "read  " if record.read else "unread"
    # Unchanged: Python cannot parse every number of JSON.
    data = msgspec.json.format(bytes(record.data), indent=0).decode()
    data = NOT_PLAIN.sub(lambda match: json.dumps(match[0])[1:-1], data)
    return f"{record.created_at}  {mark}  {record.type:9}  from {json.dumps(record.from_user_id)}  {data}"
