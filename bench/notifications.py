"""The notification server, on each of its stores, and the pattern that it is measured against."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import time

import msgspec
from msgspec import Raw, structs
from opennoodl_notification.inbox.store import Changes, Needs
from opennoodl_notification.records import Inbox, Record, timestamp
from opennoodl_notification.storage.choose import choose
from uuid_utils import uuid7

from . import notification_load
from .scenarios import Scenario
from .servers import Peer, postgresql
from .stored_data import Seed

EACH = 100
"""Notifications of one user."""
PIECE = 50
"""Users that are prepared at once."""
MINUTE = 60_000
SETTINGS = {
    "PORT": "{port}",
    "HOST": "127.0.0.1",
    "RATE_LIMIT": "0",
    "BYTE_RATE_LIMIT": "0",
    "SENDS_PER_HOUR": "0",
    "SEND_BYTES_PER_HOUR": "0",
    "MAX_STORED_SIZE": "0",
    "MAX_PER_USER": "0",
    "LOG_FORMAT": "json",
}
COMMAND = (sys.executable, "-m", "opennoodl_notification")
PEERS = (
    Peer(
        "ours-json",
        "opennoodl-notification-server with a file and its journal, brought to disk before it is answered",
        COMMAND,
        {**SETTINGS, "DB_FILE": "{data}/notifications.json"},
        seeds="json",
    ),
    Peer(
        "ours-sqlite",
        "the same with SQLite, `synchronous=FULL`",
        COMMAND,
        {**SETTINGS, "DATABASE_URL": "sqlite:///{data}/notifications.sqlite"},
        seeds="sqlite",
        reference=True,
    ),
    Peer(
        "ours-postgresql",
        "the same with PostgreSQL 18 on whatever core is free, with its own settings",
        COMMAND,
        {**SETTINGS, "DATABASE_URL": "{database}"},
        seeds="postgresql",
        reference=True,
        database=True,
    ),
    Peer(
        "lowdb",
        "a minimal server in JavaScript with an array in a LowDB 7 file: written whole at each change, never synced. "
        "What has not come when a run ends counts as that late, so the ratios of the open loop say that it collapses "
        "and not how much faster ours is",
        ("node", "peers/lowdb.mjs"),
        {"PORT": "{port}", "DATA": "{data}/notifications.json"},
        seeds="lowdb",
    ),
)
DATABASES = frozenset({"ours-sqlite", "ours-postgresql"})


def scenarios(*, quick: bool) -> list[Scenario]:
    """Return the scenarios of the notification server."""
    sizes = {"0": 0, "1k": 1000, "10k": 10_000, "50k": 50_000, "100k": 100_000, "1M": 1_000_000}
    if quick:
        sizes = {"0": 0, "1k": 1000}
    seconds = 1.0 if quick else 6.0
    stored = [
        Scenario(
            f"stored-{name}",
            f"{number:,} stored",
            f"Sends with so many stored, {notification_load.SENDERS} senders that wait for each answer",
            notification_load.STORED_METRICS,
            partial(notification_load.saturated, users=users(max(number, 1000)), seconds=seconds),
            Seed(partial(filled, number), WRITERS),
            DATABASES if number > 50_000 else None,
        )
        for name, number in sizes.items()
    ]
    rewritten = [
        Scenario(
            f"rewrite-{name}",
            f"{rate:,} sends/s with {number:,} stored, while the file is written anew",
            "Open loop, from when a send was due to the receiver's second device",
            notification_load.DELIVERY_METRICS,
            partial(notification_load.rewriting, rate=rate, seconds=seconds),
            Seed(partial(filled, number), WRITERS),
            frozenset({"ours-json"}),
        )
        for name, number, rate, seconds in (("10k", 10_000, 500, 20.0), ("50k", 50_000, 1000, 40.0))
        if not quick
    ]
    rates = (100,) if quick else (100, 500, 1000)
    delivered = [
        Scenario(
            f"delivery-{rate}",
            f"{rate:,} sends/s with 10,000 stored",
            "Open loop, from when a send was due to the receiver's second device",
            notification_load.DELIVERY_METRICS,
            partial(notification_load.delivery, rate=rate, warm=0.5 if quick else 2.0, seconds=1.0 if quick else 8.0),
            Seed(partial(filled, 1000 if quick else 10_000), WRITERS),
        )
        for rate in rates
    ]
    return [*stored, *delivered, *rewritten]


def users(number: int) -> list[str]:
    """Return the users among whom so many notifications are."""
    return [f"user {user}" for user in range(number // EACH)]


def filled(number: int) -> Iterator[Changes]:
    """Yield so many notifications, an hour old, a third of them read."""
    start = int(time() * 1000) - 60 * MINUTE
    names = users(number)
    for first in range(0, len(names), PIECE):
        piece = Changes()
        for user in names[first : first + PIECE]:
            piece.added += (_record(user, one, start) for one in range(EACH))
            last = piece.added[-1]
            piece.inboxes.append(
                Inbox(
                    user_id=user,
                    sequence=start + EACH,
                    total=EACH,
                    unread=sum(not record.read for record in piece.added[-EACH:]),
                    newest=last.created_at,
                    due=piece.added[-EACH].expires_at,
                )
            )
        yield piece


def _record(user: str, number: int, start: int) -> Record:
    created = start + number
    record = Record(
        id=str(uuid7()),
        user_id=user,
        from_user_id="sender 1",
        type="invite",
        data=Raw(
            b'{"roomId":"3f1c8a52-0f5b-4c5e-9f0e-5a1f2f6f7d11","message":"Come and look at this","n":%d}' % number
        ),
        read=number % 3 == 0,
        created_at=timestamp(created),
        expires_at=timestamp(created + 30 * 24 * 60 * MINUTE),
        born=start + number,
        sequence=start + number,
    )
    return structs.replace(record, read_at=record.created_at) if record.read else record


def _write(path: Path, pieces: Iterator[Changes], place: Callable[[Path], str]) -> None:
    async def write() -> None:
        store = choose(place(path))
        await store.open()
        for piece in pieces:
            async with store.transaction(Needs("", 0)) as transaction:
                await transaction.commit(piece)
        await store.close()

    # In a thread, since the benchmark's own event loop is waiting in this one.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, write()).result()


def _write_json(path: Path, pieces: Iterator[Changes]) -> None:
    _write(path, pieces, lambda path: f"{path}/notifications.json")


def _write_sqlite(path: Path, pieces: Iterator[Changes]) -> None:
    path.mkdir()
    _write(path, pieces, lambda path: f"sqlite:///{path}/notifications.sqlite")


def _write_postgresql(path: Path, pieces: Iterator[Changes]) -> None:
    path.parent.chmod(0o711)
    path.mkdir()
    server = postgresql(path)
    try:
        _write(path, pieces, lambda _: str(server.get_uri()))
    finally:
        server.cleanup()


def _write_lowdb(path: Path, pieces: Iterator[Changes]) -> None:
    path.mkdir()
    notifications = [record.shown() for piece in pieces for record in piece.added]
    (path / "notifications.json").write_bytes(msgspec.json.encode({"notifications": notifications}))


WRITERS = {"json": _write_json, "sqlite": _write_sqlite, "postgresql": _write_postgresql, "lowdb": _write_lowdb}
