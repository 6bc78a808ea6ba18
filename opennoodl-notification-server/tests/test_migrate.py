"""A migration brings everything over, once, and says so only when it is true."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs
from opennoodl_notification import migrate
from opennoodl_notification.inbox.store import Changes, Needs, Store, StoreError
from opennoodl_notification.migrate import Migration, MigrationError
from opennoodl_notification.records import Deletion, Inbox, Sending, timestamp
from opennoodl_notification.storage.choose import choose
from opennoodl_notification.storage.json_file.store import JsonStore
from tinydb import TinyDB

from .harness import NOW, record
from .places import KINDS, place
from .storage.json_file.test_store import killed

pytestmark = pytest.mark.slow

PAIRS = [pair for pair in product(KINDS, KINDS) if pair != ("postgresql", "postgresql")]
"""Which stores are migrated to which; of PostgreSQL, the tests have one."""
ENDS = [(pair, kill) for pair in PAIRS for kill in ([False, True] if "json" in pair else [False])]
"""Pairs, and whether servers are killed: for a database, that is the same as a stop."""
USERS = 5
EACH = 5


def content() -> Changes:
    """Return what the sources hold: users with notifications, one of them with none left.

    Some have deleted their first one; their inboxes are to be looked at when it would have expired.
    """
    changes = Changes()
    for number in range(USERS):
        user = f"user {number}"
        records = [
            record(f"{number}.{one}", user, NOW + one, f'{{\r\n"number": {one}\n}}'.encode(), born=one, sequence=one)
            for one in range(EACH)
        ]
        changes.added += records
        changes.deletions.append(Deletion(user, 90, f"gone {number}", 3))
        due, newest = timestamp((NOW + number) * 1000) if number % 2 else records[0].expires_at, records[-1].created_at
        changes.inboxes.append(
            Inbox(user_id=user, sequence=99, total=EACH, unread=EACH, newest=newest, due=due, cleared=2)
        )
    changes.inboxes.append(Inbox(user_id="nobody", sequence=4, due=timestamp(NOW * 1000)))
    changes.sendings = [Sending("s", key, "f", ("0.1", "1.1"), timestamp(NOW * 1000)) for key in "abc"]
    return changes


async def everything(store: Store) -> Changes:
    """Return all that a store holds, in one order."""
    all_ = Changes()
    async for piece in store.content(3):
        for name in ("added", "deletions", "sendings", "inboxes"):
            getattr(all_, name).extend(getattr(piece, name))
    for name in ("added", "deletions", "sendings", "inboxes"):
        getattr(all_, name).sort(key=repr)
    return all_


@asynccontextmanager
async def opened(at: str) -> AsyncIterator[Store]:
    """Open a store for a while."""
    store = choose(at)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def fill(at: str, changes: Changes, *, kill: bool = False) -> None:
    """Put changes into an empty store; the server that has them may have been killed."""
    for inbox in changes.inboxes:
        sizes = (record.size for record in changes.added if record.user_id == inbox.user_id)
        inbox.measure(sizes, sum(deletion.user_id == inbox.user_id for deletion in changes.deletions))
    store = choose(at)
    await store.open()
    async with store.transaction(Needs("", 0)) as transaction:
        await transaction.commit(changes)
    if kill and isinstance(store, JsonStore):
        await killed(store)
    else:
        await store.close()


async def migrated(source: str, target: str) -> int:
    """Migrate; return how many notifications were found done in the end."""
    async with opened(source) as from_, opened(target) as to:
        migration = Migration(from_, to)
        await migration.run()
        return migration.done


async def kept(at: str) -> Changes:
    """Return all that is at a place."""
    async with opened(at) as store:
        return await everything(store)


def run(what: Coroutine[Any, Any, Any]) -> Any:
    """Wait for something."""
    return asyncio.run(what)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a migration take many steps."""
    monkeypatch.setattr(migrate, "PIECE", 4)


def two(tmp_path: Path, source: str, target: str) -> tuple[str, str]:
    """Return an empty place of each kind."""
    directories = tmp_path / "from", tmp_path / "to"
    for directory in directories:
        directory.mkdir()
    return place(source, directories[0]), place(target, directories[1])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_migration_between_any_stores_is_complete(tmp_path: Path, source: str, target: str) -> None:
    """Everything is the same in the target as in the source, whatever the two are."""
    at, to = two(tmp_path, source, target)
    run(fill(at, content()))
    before = run(kept(at))
    assert run(migrated(at, to)) == USERS * EACH
    assert run(kept(to)) == run(kept(at)) == before


def interrupted(steps: int) -> Callable[[Migration, Changes], Coroutine[Any, Any, None]]:
    """Return what takes the place of `Migration._copy`, and brings so many pieces and no more."""
    bring, left = Migration._copy, steps

    async def fail(migration: Migration, piece: Changes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreError("the cable was pulled")
        await bring(migration, piece)

    return fail


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("pair", "kill"), ENDS)
def test_interrupted_migration_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], kill: bool
) -> None:
    """A migration that is interrupted twice, the second time later, continues, however the servers have ended."""
    at, to = two(tmp_path, *pair)
    run(fill(at, content(), kill=kill))
    for steps in (1, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Migration, "_copy", interrupted(steps))
            if kill:
                patch.setattr(JsonStore, "close", killed)
            with pytest.raises(StoreError):
                run(migrated(at, to))
    assert run(migrated(at, to)) == USERS * EACH
    assert told(run(kept(to))) == told(run(kept(at)))
    assert run(migrated(at, to)) == USERS * EACH


def told(changes: Changes) -> list[Any]:
    """Return what changes say, without the layout of the senders' JSON."""
    names = ("added", "deletions", "sendings", "inboxes")
    return [json.loads(msgspec.json.encode(getattr(changes, name))) for name in names]


@pytest.mark.usefixtures("small_pieces")
def test_broken_off_with_a_file_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has notifications and nothing else, as others write it, is the same source each time."""
    at, to = two(tmp_path, "json", "sqlite")
    with TinyDB(at) as database:
        for one in content().added:
            database.table("notifications").insert(json.loads(msgspec.json.encode(one)))
    with monkeypatch.context() as patch:
        patch.setattr(Migration, "_copy", interrupted(2))
        with pytest.raises(StoreError):
            run(migrated(at, to))
    assert run(migrated(at, to)) == USERS * EACH


def test_second_migration_changes_nothing(tmp_path: Path) -> None:
    """To migrate once more changes nothing."""
    at, to = two(tmp_path, "json", "sqlite")
    run(fill(at, content()))
    run(migrated(at, to))
    assert run(migrated(at, to)) == USERS * EACH
    assert run(kept(to)) == run(kept(at))


def test_empty_store_can_be_migrated(tmp_path: Path) -> None:
    """An empty store may be migrated."""
    at, to = two(tmp_path, "json", "sqlite")
    assert run(migrated(at, to)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("there", "told"),
    [
        (Changes(inboxes=[Inbox(user_id="user 3", sequence=1)]), "another inbox of 'user 3'"),
        (Changes(inboxes=[Inbox(user_id="stranger", sequence=1)]), "1 inbox,.* of which the source has .* 0 inboxes"),
        (
            Changes(sendings=[Sending("s", "z", "f", ("1",), timestamp(NOW * 1000))]),
            "1 sending, of which .* 0 sendings",
        ),
        (
            Changes(sendings=[Sending("s", "a", "z", ("1",), timestamp(NOW * 1000))]),
            "1 sending, of which .* 0 sendings",
        ),
    ],
)
def test_target_with_something_else(tmp_path: Path, kind: str, there: Changes, told: str) -> None:
    """A target that holds what the source does not is named, and nothing is written into it."""
    at, to = two(tmp_path, "json", kind)
    run(fill(at, content()))
    run(fill(to, there))
    before = run(kept(to))
    with pytest.raises(MigrationError, match=f"{told}.*nothing was written"):
        run(migrated(at, to))
    assert run(kept(to)) == before


@pytest.mark.parametrize("kind", ["json", "sqlite"])
@pytest.mark.parametrize("other", ["data", "sequence", "deletion"])
def test_as_many_others_in_the_target(tmp_path: Path, kind: str, other: str) -> None:
    """A target that holds as much as the source, and something else, is found out all the same."""
    at, to = two(tmp_path, "json", kind)
    run(fill(at, content()))
    there = content()
    if other == "data":
        there.added[3] = structs.replace(there.added[3], data=Raw(b"0"))
    elif other == "sequence":
        there.added[3] = structs.replace(there.added[3], sequence=99)
    else:
        there.deletions[3] = structs.replace(there.deletions[3], id="another")
    run(fill(to, there))
    before = run(kept(to))
    with pytest.raises(MigrationError, match=r"other records than the source; it has to be empty.*nothing was written"):
        run(migrated(at, to))
    assert run(kept(to)) == before


def test_part_in_the_target_with_other_data(tmp_path: Path) -> None:
    """A target with a part of the source's inboxes, one with other data, is detected after the rest was copied."""
    at, to = two(tmp_path, "json", "sqlite")
    run(fill(at, content()))
    there, user = Changes(), "user 3"
    there.inboxes = [inbox for inbox in content().inboxes if inbox.user_id == user]
    there.added = [structs.replace(record, data=Raw(b"0")) for record in content().added if record.user_id == user]
    there.deletions = [deletion for deletion in content().deletions if deletion.user_id == user]
    run(fill(to, there))
    with pytest.raises(MigrationError, match="something in the target is not as it is in the source"):
        run(migrated(at, to))
