"""Every store keeps what it is told, finds it again, and gives a batch what it needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes, Needs, Query, Store
from opennoodl_notification.records import HISTORY, PAYLOAD_SIZE, Deletion, Inbox, Record, Sending, timestamp
from opennoodl_notification.storage.choose import choose
from opennoodl_notification.storage.sql import statements

from ..harness import DAY, NOW, record
from ..places import KINDS, Backup, copied, place, restored

LATER = timestamp((NOW + 60 * DAY) * 1000)
EARLY = timestamp(NOW * 1000)
ODD = ["plain", "quo'te", '"; drop table notifications; --', "ü😀", " ", "%s :x ? $1", "x" * 256, "\u2028\x7f"]


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty store of each kind is."""
    return place(request.param, tmp_path)


@pytest.fixture
async def store(at: str) -> AsyncIterator[Store]:
    """Open an empty store."""
    store = choose(at)
    await store.open()
    yield store
    await store.close()


async def commit(store: Store, **changes: Any) -> int:
    """Store changes; return the bytes of the payloads that went."""
    async with store.transaction(Needs(EARLY, 0)) as transaction:
        return await transaction.commit(Changes(**changes))


async def load(store: Store, room: int = 0, now: str = EARLY, **needs: Any) -> Any:
    """Return what a batch is given."""
    wanted = Needs(now, room)
    for name, value in needs.items():
        getattr(wanted, name).update(value)
    async with store.transaction(wanted) as transaction:
        return transaction.loaded


async def everything(store: Store, size: int = 2) -> dict[str, list[str]]:
    """Return all that is stored, in one order."""
    found: dict[str, list[str]] = {name: [] for name in ("added", "deletions", "sendings", "inboxes")}
    async for piece in store.content(size):
        for name, rows in found.items():
            rows.extend(map(plain, getattr(piece, name)))
    return {name: sorted(rows) for name, rows in found.items()}


@contextmanager
def parameters() -> Iterator[list[int]]:
    """Return the numbers of parameters of the statements that databases are given meanwhile."""
    counts: list[int] = []

    def count(_connection: Any, _cursor: Any, _statement: str, given: Any, _context: Any, many: bool) -> None:
        counts.extend(map(len, given) if many else [len(given)])

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    yield counts
    sa.event.remove(sa.Engine, "before_cursor_execute", count)


def plain(row: Any) -> str:
    """Return a row as a text that can be compared."""
    if isinstance(row, Record):
        return repr({**structs.asdict(row), "data": bytes(row.data)})
    return repr(row)


def inbox(user: str = "u", **fields: Any) -> Inbox:
    """Return the state of an inbox."""
    return Inbox(user_id=user, **{"sequence": 9, "newest": EARLY, "due": LATER, **fields})


def numbered(number: int, user: str = "u", **fields: Any) -> Record:
    """Return the notification of this number, created so many seconds after the first."""
    return record(f"{user}{number}", user, NOW + number, born=number, sequence=number, **fields)


def ids(records: Any) -> list[str]:
    """Return the ids of what is stored."""
    return [one.id for one in records]


async def test_new_store_is_empty(store: Store) -> None:
    """A new store has nothing."""
    assert await store.counts() == (0, 0, 0, 0, 0)
    assert await store.page("u", Query(10), EARLY) == []
    assert await store.changed("u", 0) == []
    assert await store.due(LATER, 10) == []
    loaded = await load(store, users={"u": 0}, ids={"n"}, revoked={"m"}, unread={"u"}, sendings={("s", "k")})
    assert (loaded.inboxes, loaded.records, loaded.due, loaded.sendings) == ({}, [], {}, {})


async def test_everything_is_found_again(at: str) -> None:
    """All that a commit adds is there after the store was closed and opened."""
    store = choose(at)
    await store.open()
    changes: dict[str, Any] = {
        "added": [
            numbered(1, data=b'{"a" : 1.0, "b":"\\u0000\\u00fc \\"?"}'),
            numbered(2, read=True, read_at=LATER, type="system"),
        ],
        "deletions": [Deletion("u", 7, "gone", 3)],
        "sendings": [Sending("s", "k", "f", ("u1", "u2"), LATER)],
        "inboxes": [inbox(total=2, unread=1, cleared=4, newest=numbered(2).created_at, due=numbered(1).expires_at)],
    }
    changes["inboxes"][0].measure((one.size for one in changes["added"]), gone=1)
    await commit(store, **changes)
    expected = {name: sorted(map(plain, rows)) for name, rows in changes.items()}
    assert await everything(store) == expected
    await store.close()
    store = choose(at)
    await store.open()
    assert await everything(store) == expected
    assert await store.counts() == (2, 1, 1, 1, 1)
    await store.close()


@pytest.mark.parametrize("odd", ODD)
async def test_odd_ids_and_keys_are_kept(store: Store, odd: str) -> None:
    """Whatever stands in an id or a key comes back as it was."""
    one = structs.replace(numbered(1, odd), from_user_id=odd)
    await commit(store, added=[one], inboxes=[inbox(odd)], sendings=[Sending(odd, odd, "f", (odd,), LATER)])
    assert list(map(plain, await store.page(odd, Query(10), EARLY))) == [plain(one)]
    loaded = await load(store, users={odd: 0}, ids={one.id}, sendings={(odd, odd)})
    assert loaded.sendings[odd, odd].ids == (odd,)
    assert list(loaded.inboxes) == [odd]
    assert ids(loaded.records) == [one.id]


async def test_update_changes_the_read_time(store: Store) -> None:
    """An update sets or removes the read time, and keeps the place."""
    await commit(store, added=[numbered(number) for number in range(3)])
    read = structs.replace(numbered(1), read=True, read_at=LATER, sequence=8)
    await commit(store, updated=[read.mark()])
    assert list(map(plain, await store.page("u", Query(10), EARLY))) == list(
        map(plain, [numbered(2), read, numbered(0)])
    )
    await commit(store, updated=[numbered(1).mark()])
    assert plain((await store.page("u", Query(10), EARLY))[1]) == plain(numbered(1))


async def test_removal_is_idempotent(store: Store) -> None:
    """A removed notification is gone, and a second removal does nothing."""
    await commit(store, added=[numbered(1), numbered(2)])
    for _ in range(2):
        await commit(store, removed=["u1", "unknown"])
        assert ids(await store.page("u", Query(10), EARLY)) == ["u2"]


@pytest.mark.parametrize("way", ["removed", "cleared", "forgotten"])
async def test_shared_payload_is_stored_once(at: str, way: str) -> None:
    """A payload is stored and counted once, also after a restart, and goes with the last notification that has it."""
    store = choose(at)
    await store.open()
    data = b'"%s"' % (b"x" * 5000)
    sent = [numbered(1, user, payload_id="p", data=data) for user in ("u", "v", "w")]
    states = [inbox(one.user_id, total=1, unread=1) for one in sent]
    for state, one in zip(states, sent, strict=True):
        state.measure([one.size], gone=0)
    await commit(store, added=sent, inboxes=states)
    size = PAYLOAD_SIZE + len(data)
    assert await store.size() == size + sum(state.size for state in states) < 2 * size
    await store.close()
    store = choose(at)
    await store.open()
    assert await store.size() == size + sum(state.size for state in states)
    names = [one.id if way == "removed" else one.user_id for one in sent]
    assert await commit(store, **{way: names[:2]}) == 0
    assert bytes((await store.page("w", Query(10), EARLY))[0].data) == data
    assert bytes((await store.changed("w", 0))[0].data) == data  # type: ignore[union-attr]
    assert bytes((await load(store, ids={"w1"})).records[0].data) == data
    assert await commit(store, **{way: names[2:]}) == size
    assert await store.size() == sum(state.size for state in states if way != "forgotten")
    await store.close()


async def test_payload_in_several_commits(store: Store) -> None:
    """Notifications that come later may share a payload that is there, as when inboxes are moved one by one."""
    for user in ("u", "v"):
        await commit(store, added=[numbered(1, user, payload_id="p", data=b"1")])
    assert await store.size() == PAYLOAD_SIZE + 1
    assert await commit(store, removed=["u1"]) == 0
    assert bytes((await store.page("v", Query(10), EARLY))[0].data) == b"1"


async def test_replaced_notification_keeps_the_payload(store: Store) -> None:
    """A commit that replaces the last notification that has a payload keeps the payload."""
    await commit(store, added=[numbered(1, payload_id="p", data=b"1")])
    assert await commit(store, removed=["u1"], added=[numbered(1, payload_id="p", data=b"1")]) == 0
    assert bytes((await store.page("u", Query(10), EARLY))[0].data) == b"1"
    assert await store.size() == PAYLOAD_SIZE + 1


async def test_cleared_inbox_stays(store: Store) -> None:
    """A cleared inbox loses its notifications and deletions but stays, with all that is added in the same commit."""
    await commit(store, added=[numbered(1), numbered(1, "v")], deletions=[Deletion("u", 3, "d", 1)], inboxes=[inbox()])
    await commit(store, cleared=["u"], added=[numbered(2)])
    assert ids(await store.page("u", Query(10), EARLY)) == ["u2"]
    assert await store.counts() == (2, 0, 1, 0, 0)


async def test_forgotten_inbox_leaves_nothing(store: Store) -> None:
    """A forgotten inbox leaves nothing."""
    await commit(store, inboxes=[inbox(), inbox("v")], deletions=[Deletion("u", 3, "d", 1)])
    await commit(store, forgotten=["u"])
    assert await store.counts() == (0, 0, 1, 0, 0)


async def test_page_has_matches_newest_first(store: Store) -> None:
    """A page has what matches, the newest first, and nothing that has expired."""
    await commit(
        store,
        added=[
            numbered(0, expires_at=EARLY),
            numbered(1),
            numbered(2, read=True, read_at=EARLY),
            numbered(3, type="mention"),
            numbered(4, type="thread"),
            numbered(5, "v"),
        ],
    )
    before = timestamp((NOW + 4) * 1000)
    for query, expected in {
        Query(10): [4, 3, 2, 1],
        Query(2): [4, 3],
        Query(10, before): [3, 2, 1],
        Query(2, before): [3, 2],
        Query(10, unread=True): [4, 3, 1],
        Query(10, types=("mention", "invite")): [3, 2, 1],
        Query(1, before, unread=True, types=("invite",)): [1],
        Query(10, EARLY): [],
    }.items():
        assert ids(await store.page("u", query, EARLY)) == [f"u{number}" for number in expected], query


async def test_changes_are_in_their_order(store: Store) -> None:
    """Changes after a number are in their order, with deletions among them."""
    await commit(
        store,
        added=[numbered(1), structs.replace(numbered(2), sequence=6), numbered(4), numbered(5, "v")],
        deletions=[Deletion("u", 3, "x", 1), Deletion("u", 5, "y", 1), Deletion("v", 6, "z", 1)],
    )
    assert ids(await store.changed("u", 2)) == ["x", "u4", "y", "u2"]
    assert ids(await store.changed("u", 5)) == ["u2"]


async def test_remembered_deletions_are_bounded(store: Store) -> None:
    """Of deletions, those of the last thousand changes are remembered, however far apart their numbers are."""
    await commit(store, deletions=[Deletion("u", number, f"d{number}", 0) for number in (1, 2, 3, HISTORY)])
    await commit(store, deletions=[Deletion("u", HISTORY + 2, "last", 0)], inboxes=[inbox("u", sequence=HISTORY + 2)])
    assert ids(await store.changed("u", 0)) == ["d3", f"d{HISTORY}", "last"]
    far = 10 * HISTORY
    later = inbox("u", sequence=far + 1, gaps=((HISTORY + 2, far),))
    await commit(store, deletions=[Deletion("u", far + 1, "far", 0)], inboxes=[later])
    assert ids(await store.changed("u", 0)) == [f"d{HISTORY}", "last", "far"]


async def test_epoch_after_a_restore(at: str) -> None:
    """Each start begins an epoch that no inbox knows, also where an older state was put in place of the last one."""
    backups: list[Backup] = []
    for start in range(4):
        if start == 3:
            await restored(at, backups[0])
        store = choose(at)
        await store.open()
        loaded = await load(store, users={"u": 0})
        assert loaded.inboxes["u"].epoch < loaded.epoch if start else not loaded.inboxes
        await commit(store, inboxes=[inbox(epoch=loaded.epoch)])
        assert (await load(store)).epoch == loaded.epoch
        await store.close()
        backups.append(await copied(at))


async def test_due_inboxes_are_found(store: Store) -> None:
    """Inboxes are found when their time has come, as many as are asked for."""
    early = [inbox(f"u{number}", due=EARLY) for number in range(5)]
    await commit(store, inboxes=[*early, inbox("late")])
    assert set(await store.due(EARLY, 10)) == {one.user_id for one in early}
    assert len(await store.due(EARLY, 3)) == 3
    assert len(await store.due(LATER, 10)) == 6
    assert await store.due(timestamp(0), 10) == []


async def test_sendings_expire_with_their_keys(store: Store) -> None:
    """Sendings are forgotten when their time has come, and replaced by later ones with the same key."""
    await commit(store, sendings=[Sending("s", key, "f", ("n",), EARLY) for key in "abc"])
    await commit(store, sendings=[Sending("s", "a", "g", ("m",), LATER)])
    await store.clean(EARLY)
    loaded = await load(store, sendings={("s", key) for key in "abcd"})
    assert loaded.sendings == {("s", "a"): Sending("s", "a", "g", ("m",), LATER)}


async def test_batch_gets_what_it_names(store: Store) -> None:
    """A batch gets the inboxes and notifications it names, and the inboxes of those it may revoke."""
    users = ("u", "v", "w")
    await commit(store, added=[numbered(1, user) for user in users], inboxes=[inbox(user) for user in users])
    loaded = await load(store, users={"u": 0}, ids={"u1", "w1"}, revoked={"v1"})
    assert set(loaded.inboxes) == {"u", "v"}
    assert {"u1", "v1"} <= set(ids(loaded.records))
    assert loaded.due == {}


async def test_batch_gets_unread_notifications(store: Store) -> None:
    """A batch gets all unread notifications of users for whom it needs them."""
    added = [numbered(1), numbered(2, read=True, read_at=EARLY), numbered(3), numbered(4, "v")]
    await commit(store, added=added, inboxes=[inbox(total=3), inbox("v", total=1)])
    loaded = await load(store, users={"u": 0, "v": 0}, unread={"u"})
    assert sorted(ids(loaded.records)) == ["u1", "u3"]


async def test_batch_gets_expired_notifications(store: Store) -> None:
    """A batch gets what has expired in its inboxes, and when the rest will."""
    middle = timestamp((NOW + DAY) * 1000)
    added = [numbered(1, expires_at=EARLY), numbered(2, expires_at=middle), numbered(3), numbered(4, "v")]
    inboxes = [inbox(due=EARLY, total=3), inbox("v", due=EARLY, total=1), inbox("w", due=EARLY), inbox("x")]
    await commit(store, added=added, inboxes=inboxes)
    loaded = await load(store, users=dict.fromkeys("uvwx", 0))
    assert ids(loaded.records) == ["u1"]
    assert loaded.due == {"u": middle, "v": added[3].expires_at}


@pytest.mark.parametrize("coming", [0, 1, 2, 3])
async def test_batch_gets_the_notifications_that_must_go(store: Store, coming: int) -> None:
    """A batch gets as many of the oldest and of the oldest read ones as must go, where an inbox gets too full."""
    added = [numbered(n, read=n in (3, 4), **({"read_at": EARLY} if n in (3, 4) else {})) for n in range(5)]
    await commit(store, added=added, inboxes=[inbox(total=5)])
    loaded = await load(store, room=6, users={"u": coming})
    expected: set[str] = {1: set(), 2: {"u0", "u3"}, 3: {"u0", "u1", "u3", "u4"}}.get(coming, set())
    assert set(ids(loaded.records)) == expected


async def test_loaded_is_a_copy(store: Store) -> None:
    """A batch changes nothing in the store before its commit."""
    await commit(store, inboxes=[inbox()])
    (await load(store, users={"u": 0})).inboxes["u"].unread = 99
    assert (await load(store, users={"u": 0})).inboxes["u"].unread == 0


async def test_receiver_without_a_notification_leaves_nothing(store: Store) -> None:
    """An inbox for which something was to come, and nothing did, leaves nothing behind."""
    wanted = Needs(EARLY, 0)
    wanted.users.update({"u": 1, "stranger": 1})
    async with store.transaction(wanted) as transaction:
        await transaction.commit(Changes(inboxes=[inbox("u")]))
    assert (await everything(store))["inboxes"] == [plain(inbox("u"))]


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_content_makes_the_same(store: Store, tmp_path: Path, size: int) -> None:
    """The pieces of a store's content, committed one by one, make an equal store; no inbox is divided."""
    added = [numbered(number, f"user {number % 4}") for number in range(20)]
    inboxes = [inbox(f"user {number}", total=5) for number in range(4)]
    sendings = [Sending("s", str(number), "f", ("n",), LATER) for number in range(5)]
    deletions = [Deletion("user 1", number, f"d{number}", 0) for number in range(3)]
    await commit(store, added=added, inboxes=[*inboxes, inbox("empty")], sendings=sendings, deletions=deletions)
    other = choose(str(tmp_path / "other" / "notifications.json"))
    await other.open()
    seen: set[str] = set()
    async for piece in store.content(size):
        users = {one.user_id for one in piece.inboxes}
        assert users.isdisjoint(seen)
        assert {one.user_id for one in [*piece.added, *piece.deletions]} <= users
        seen |= users
        if piece:
            async with other.transaction(Needs(EARLY, 0)) as transaction:
                await transaction.commit(piece)
    assert await everything(other) == await everything(store)
    assert [one.id for one in await other.page("user 1", Query(10), EARLY)] == [
        one.id for one in await store.page("user 1", Query(10), EARLY)
    ]
    await other.close()


async def test_missing_store_is_not_empty(tmp_path: Path) -> None:
    """A store that must be there and is not is no empty one."""
    store = choose(str(tmp_path / "nothing.json"), create=False)
    with pytest.raises(StartError, match="does not exist"):
        await store.open()
    assert await asyncio.to_thread(os.listdir, tmp_path) == []


async def test_batch_may_exceed_the_parameters_of_a_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a batch names and whatever goes, a statement has no more parameters than a database takes.

    PostgreSQL takes 32,767. Here names are passed on in chunks of 10 in place of `CHUNK`, at most two for each name.
    """
    monkeypatch.setattr(statements, "CHUNK", 10)
    names = [f"n{number}" for number in range(60)]
    await commit(store, added=[numbered(1), numbered(2)], inboxes=[inbox(total=2)])
    keys = {("s", name) for name in names}
    with parameters() as counts:
        loaded = await load(
            store,
            users=dict.fromkeys(["u", *names], 0),
            ids={"u1", *names},
            revoked={"u2", *names},
            unread={"u", *names},
            sendings=keys,
        )
        # What is cleared and what is forgotten is named to a database together.
        await commit(store, cleared=names[:30], removed=["u1", *names], forgotten=names[30:])
    assert list(loaded.inboxes) == ["u"]
    assert set(ids(loaded.records)) == {"u1", "u2"}
    assert ids(await store.page("u", Query(10), EARLY)) == ["u2"]
    assert max(counts, default=0) < len(names) / 2


async def test_due_inboxes_are_bounded_by_size(store: Store) -> None:
    """As many due inboxes are returned as hold the wanted number, each counted as one more."""
    await commit(store, inboxes=[inbox(f"u{number}", due=timestamp(NOW + number), total=9) for number in range(9)])
    for size, found in ((1, 1), (10, 1), (11, 2), (40, 4), (41, 5), (1000, 9)):
        assert len(await store.due(EARLY, size)) == found, size


async def test_numbers_of_inboxes_are_read_together(store: Store) -> None:
    """The numbers of many inboxes are read at once; those that are not there have none."""
    await commit(store, inboxes=[inbox(f"u{number}", sequence=number + 1) for number in range(500)])
    asked = [f"u{number}" for number in range(0, 600, 2)]
    assert await store.numbers(asked) == {f"u{number}": number + 1 for number in range(0, 500, 2)}


async def test_newest_notification_is_found_after_its_deletion(store: Store) -> None:
    """The newest notification is found over all inboxes, also when it is gone."""
    assert await store.newest() == ""
    await commit(store, inboxes=[inbox("a", newest=EARLY), inbox("b", newest=LATER), inbox("c", newest="")])
    assert await store.newest() == LATER
