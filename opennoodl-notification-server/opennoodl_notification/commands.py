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
"""Seconds after which a server that does not answer is given up."""
MAX_REASON = 200
"""Characters of an answer that is shown as the reason of a refusal."""
SQLITE = b"SQLite format 3\0"
"""How a database of SQLite begins."""
NOT_PLAIN = re.compile(r"[^ -~]")
"""What is not a printable character of ASCII; JSON has it in its texts only."""


class Proof(NamedTuple):
    """What shows a server who sends.

    Attributes:
        token: the token, if there is any.
        hint: how to do better if the server does not accept it.
    """

    token: str | None
    hint: str


def send(url: str, sender: str, proof: Proof, data: str, **fields: Any) -> list[str]:
    """Send a notification through a running server; return the ids it got.

    Args:
        url: of the server, ``ws://`` or ``wss://``.
        sender: who sends.
        proof: what proves that.
        data: what the notification says, in JSON.
        fields: the other ones of `send-notification`.

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
    """Return the sentence with which a server refuses a handshake; the status, if the answer is no sentence."""
    text = refused.response.body.decode(errors="replace").strip()
    return text if text.isprintable() and 0 < len(text) <= MAX_REASON else f"HTTP {refused.response.status_code}"


class Answer(Struct):
    """As much of a server's message as is of use here; what others have sent is passed over unread."""

    type: str
    error: str = ""
    code: str = ""
    ids: list[str] = field(default_factory=list, name="notificationIds")


def _ask(
    server: ClientConnection, message: dict[str, Any], answer: str, hints: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    """Return the answer of this type.

    Raises:
        CommandError: the server refuses; `hints` has what to add, by error code.
    """
    server.send(msgspec.json.encode(message), text=True)
    while True:
        came = msgspec.json.decode(server.recv(timeout=TIMEOUT), type=Answer)
        if came.type == "error":
            raise CommandError(f"the server refuses: {came.error} ({came.code}){hints.get(came.code, '')}")
        if came.type == answer:
            return came


def inbox(place: str, user: str, query: Query) -> Iterable[str]:
    """Return a line for each notification of a user, the newest first; a server may be running.

    Raises:
        CommandError: the store failed.
        StartError: it cannot be opened.
    """

    async def read() -> list[Record]:
        async with _opened(place, read_only=True) as store:
            return await store.page(user, query, timestamp(int(time() * 1000)))

    return [_line(record) for record in asyncio.run(read())]


def stats(place: str) -> Counts:
    """Return how much is stored; a server may be running.

    Raises:
        CommandError: the store failed.
        StartError: it cannot be opened.
    """

    async def count() -> Counts:
        async with _opened(place, read_only=True) as store:
            return await store.counts()

    return asyncio.run(count())


def export(place: str, user: str) -> bytes:
    """Return what is stored of a user, as JSON; a server may be running.

    Raises:
        CommandError: nothing is stored of this user, or the store failed.
        StartError: it cannot be opened.
    """

    async def look() -> Person:
        async with _opened(place, read_only=True) as store:
            return await find(store, user)

    return msgspec.json.format(msgspec.json.encode(_known(asyncio.run(look())))) + b"\n"


def erase(place: str, user: str, ttl_days: int) -> str:
    """Erase what is stored of a user; return a line that says how much it was.

    Args:
        place: where it is stored.
        user: who it is.
        ttl_days: after which an inbox that this empties is forgotten.

    Raises:
        CommandError: nothing is stored of this user, or the store failed.
        StartError: it cannot be opened, as when a server has it.
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
    """Return what a store holds, in words."""
    return f"{counted(notifications, 'notification')} in {counted(inboxes, 'inbox', 'inboxes')}"


def redate(place: str, ttl_days: int) -> str:
    """Give a date of today to what a wrong clock has dated in the future; return a line that says how much it was.

    Args:
        place: where it is stored.
        ttl_days: after which a notification expires.

    Raises:
        CommandError: the store failed.
        StartError: it cannot be opened, as when a server has it.
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
    """Write a copy of all that is stored to a new file, also while a server runs; return how much is in it.

    Raises:
        CommandError: it could not be written.
        StartError: the store, or the copy, cannot be opened.
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
    """Bring everything from a backup to an empty store, with no server running; return how much there is.

    Raises:
        CommandError: the store is not empty, or failed.
        StartError: the backup or the store cannot be opened.
    """
    return migrate(_place_of(named(file, file)), place, read_only=True)


def _place_of(path: Path) -> str:
    """Return what is given to `choose` for a backup."""
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    return f"sqlite:///{path.absolute()}" if is_sqlite else str(path)


def migrate(source: str, target: str, *, read_only: bool = False) -> Counts:
    """Bring everything from one store to another, and show how far it is; return how much there is.

    Args:
        source: the one.
        target: the other one.
        read_only: whether nothing may be written beside the source.

    Raises:
        CommandError: it could not be finished; the same again goes on from there.
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
    """Return a notification as one line; what people wrote in it is JSON, so none of it can move the cursor."""
    mark = "read  " if record.read else "unread"
    # As it was sent: Python would not read every number that JSON may have.
    data = msgspec.json.format(bytes(record.data), indent=0).decode()
    data = NOT_PLAIN.sub(lambda match: json.dumps(match[0])[1:-1], data)
    return f"{record.created_at}  {mark}  {record.type:9}  from {json.dumps(record.from_user_id)}  {data}"
