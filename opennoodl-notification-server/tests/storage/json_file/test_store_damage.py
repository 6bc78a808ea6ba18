"""A file or a journal that is damaged or missing: nothing is taken for the whole, and there is a way out."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes, Needs, Query
from opennoodl_notification.records import Deletion, Inbox, Sending, timestamp
from opennoodl_notification.storage.json_file import store as json_store
from opennoodl_notification.storage.json_file.store import JsonStore

from ...harness import NOW, content, record, stored
from .test_store import add, fail, journal, keep, killed, numbers, opened, written


@pytest.fixture
async def store(file: Path) -> AsyncIterator[JsonStore]:
    """Open a store."""
    store = JsonStore(str(file))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every journal with a line be too large."""
    monkeypatch.setattr(json_store, "LEAST", 1)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"notifications":{"1":{}}}', b'{"notifications":{"1":{"id":"x"}}}', b"[]", b"\xff"]
)
async def test_damaged_file_stops_the_start(file: Path, damage: bytes) -> None:
    """A damaged file stops the start, which names the backup and overwrites nothing."""
    await keep(file, "a")
    await keep(file, "b")
    await asyncio.to_thread(file.write_bytes, damage)
    before = content(file)
    with pytest.raises(StartError, match=r"damaged, and is unchanged.*notifications\.json\.bak"):
        await JsonStore(str(file)).open()
    assert content(file) == before
    await asyncio.to_thread(file.with_name(file.name + ".bak").replace, file)
    assert await opened(file) == {"a", "b"}


async def test_any_changed_byte_stops_the_start(file: Path) -> None:
    """After a change of any byte of a file or of its journal, the start is refused and names the damage."""
    await keep(file, "a", "b")
    store = JsonStore(str(file))
    await store.open()
    state = Inbox(user_id="u", sequence=9, total=3, due=timestamp(0), gaps=((1, 5),))
    sending = Sending("s", "key", "f", ("c",), timestamp(0))
    async with store.transaction(Needs("", 0)) as transaction:
        gone = [Deletion("u", 8, "a", 1)]
        await transaction.commit(Changes(["v"], ["a"], added=[record("c")], inboxes=[state], deletions=gone))
    async with store.transaction(Needs("", 0)) as transaction:
        await transaction.commit(Changes(sendings=[sending], forgotten=["w"]))
    await killed(store)
    assert await changes_that_pass(file, file) == []
    assert await changes_that_pass(file, journal(file, max(store._numbers()))) == []


def others(position: int, byte: int) -> set[int]:
    """Return what a byte is changed to: in one bit, and where it has a meaning in JSON, to something else that has."""
    meaning = b'"{}[],: \n\\'
    return {byte ^ (1 << position % 8), *meaning[position % 10 :][: byte in meaning]} - {byte}


async def changes_that_pass(file: Path, damaged: Path) -> list[tuple[int, int]]:
    """Return where a byte can be changed, and to what, without a refusal that names the file."""
    whole = await asyncio.to_thread(damaged.read_bytes)
    assert len(whole) > 300
    put, passed = damaged.write_bytes, []
    for position, byte in enumerate(whole):
        for other in others(position, byte):
            put(whole[:position] + bytes([other]) + whole[position + 1 :])
            try:
                await JsonStore(str(file), read_only=True).open()
            except StartError as error:
                if damaged.name in str(error):
                    continue
            passed.append((position, other))
    put(whole)
    return passed


@pytest.mark.parametrize("table", ["_default", "users"])
async def test_file_of_somebody_else(file: Path, table: str) -> None:
    """A TinyDB file with other tables than this server's stops the start, and stays as it is."""
    await asyncio.to_thread(file.write_text, f'{{"{table}": {{"1": {{"a": 1}}}}}}')
    before = content(file)
    with pytest.raises(StartError, match=f"has a table '{table}' of another program; .*name another one"):
        await JsonStore(str(file)).open()
    assert content(file) == before


async def test_damaged_journal_stops_the_start(file: Path, store: JsonStore) -> None:
    """A journal that is damaged before its end stops the start, which names the line and overwrites nothing."""
    await add(store, *numbers(3))
    copy = file.with_name("copy.json")
    journal = copy.with_name("copy.json.journal.0")
    lines = (await asyncio.to_thread(store._journal_path(0).read_bytes)).split(b"\n")
    damaged = b"\n".join([lines[0], lines[1].replace(b"invite", b"invent"), *lines[2:]])
    await asyncio.to_thread(journal.write_bytes, damaged)
    with pytest.raises(StartError, match=r"line 2 of copy\.json\.journal\.0 is damaged; the lines before it"):
        await JsonStore(str(copy)).open()
    assert content(copy) == damaged
    await asyncio.to_thread(journal.write_bytes, lines[0] + b"\n")
    assert await opened(copy) == {"0"}


async def test_missing_journal_stops_the_start(file: Path) -> None:
    """A file whose journals begin later than it ends is not taken for the whole."""
    await keep(file, "a")
    await asyncio.to_thread(journal(file, 1).rename, journal(file, 2))
    with pytest.raises(StartError, match=r"continues in notifications\.json\.journal\.1, which is missing"):
        await JsonStore(str(file)).open()


@pytest.mark.parametrize("backup", [True, False])
async def test_missing_file_stops_the_start(file: Path, backup: bool) -> None:
    """A file that is not there, but was, stops the start, which names its backup and asks for no empty journals."""
    for id_ in numbers(3):
        await keep(file, id_)
    there = file.with_name("notifications.json.bak")
    if not backup:
        await asyncio.to_thread(there.unlink)
    await asyncio.to_thread(file.unlink)
    before = content(file)
    told = r"notifications\.json is missing" + r".*rename notifications\.json\.bak to notifications\.json" * backup
    for read_only in (True, False):
        with pytest.raises(StartError, match=told) as info:
            await JsonStore(str(file), create=not read_only, read_only=read_only).open()
        assert "empty" not in str(info.value)
    assert content(file) == before
    if backup:
        await asyncio.to_thread(there.rename, file)
        assert await opened(file) == set(numbers(3))


async def test_file_emptied_while_running_costs_nothing(file: Path) -> None:
    """A file that is emptied or deleted while the server runs costs nothing, and not the backup either."""
    for id_ in numbers(3):
        await keep(file, id_)
    backup = file.with_name("notifications.json.bak")
    kept = await asyncio.to_thread(backup.read_bytes)
    for number, damage in enumerate((lambda: file.write_bytes(b""), file.unlink), 3):
        store = JsonStore(str(file))
        await store.open()
        await asyncio.to_thread(damage)
        await add(store, str(number))
        await store.close()
        assert await opened(file) == set(numbers(number + 1))
        assert await asyncio.to_thread(backup.read_bytes) == kept
    await asyncio.to_thread(backup.replace, file)
    assert await opened(file) == set(numbers(5))


@pytest.mark.usefixtures("small")
async def test_torn_line_in_the_middle(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is not whole stops the start where another journal follows, which names it."""
    store = JsonStore(str(file))
    await store.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        for id_ in numbers(3):
            await add(store, id_)
            await written(store)
    await killed(store)
    whole = await asyncio.to_thread(journal(file, 1).read_bytes)
    for damaged in (whole[:-1], whole[:-20] + b"?" + whole[-19:]):
        await asyncio.to_thread(journal(file, 1).write_bytes, damaged)
        with pytest.raises(StartError, match=r"line 1 of notifications\.json\.journal\.1 is damaged"):
            await JsonStore(str(file)).open()
    await asyncio.to_thread(journal(file, 1).write_bytes, whole)
    assert await opened(file) == set(numbers(3))


async def test_truncated_last_line_does_not_stop_later_starts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line truncated by a power cut stops no later start, even if the file is never written."""
    monkeypatch.setattr(os, "replace", fail)
    for id_ in numbers(4):
        store = JsonStore(str(file))
        await store.open()
        await written(store)
        await add(store, id_)
        await killed(store)
        last = journal(file, max(store._numbers()))
        torn = await asyncio.to_thread(last.read_bytes) + b"0123abcd {"
        await asyncio.to_thread(last.write_bytes, torn)
        assert set(stored(file)) == set(numbers(int(id_) + 1))
        assert await asyncio.to_thread(last.read_bytes) == torn
    assert await opened(file) == set(numbers(4))


async def test_journal_that_was_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal with something in it is never begun anew, should it ever not have been read."""
    store = JsonStore(str(file))
    await store.open()
    await add(store, "a")
    await killed(store)
    before = content(file)
    with monkeypatch.context() as patch:
        patch.setattr(JsonStore, "_numbers", lambda _store: [])
        with pytest.raises(StartError, match=r"cannot be used: notifications\.json\.journal\.0 is not empty"):
            await JsonStore(str(file)).open()
    assert content(file) == before
    assert await opened(file) == {"a"}


@pytest.mark.parametrize("change", ["updated", "removed", "cleared"])
async def test_without_a_lost_journal(file: Path, change: str) -> None:
    """Without a lost journal, what changed of what was in it is left out, counts are right, and numbers forgotten."""
    store = JsonStore(str(file))
    await store.open()
    await add(store, "a")
    await asyncio.to_thread(store._begin, 1)
    await add(store, "lost")
    await asyncio.to_thread(store._begin, 2)
    state = Inbox(user_id="u", sequence=9, total=2, unread=1, newest=timestamp(NOW * 1000), due=timestamp(0))
    changes = {
        "updated": Changes(updated=[record("lost", read=True).mark()], inboxes=[state]),
        "removed": Changes(removed=["lost"], inboxes=[state]),
        "cleared": Changes(cleared=["u"], added=[record("b", created=NOW + 5)], inboxes=[state]),
    }[change]
    async with store.transaction(Needs("", 0)) as transaction:
        await transaction.commit(changes)
    await killed(store)
    await asyncio.to_thread(journal(file, 1).unlink)
    with pytest.raises(StartError, match="create an empty file with this name"):
        await JsonStore(str(file)).open()
    await asyncio.to_thread(journal(file, 1).touch)
    for _ in range(2):
        store = JsonStore(str(file))
        await store.open()
        (there,) = store.contents.page("u", Query(10), "")
        assert there.id == ("b" if change == "cleared" else "a")
        counts = store.contents.counts()
        assert (counts.notifications, counts.unread, store.contents.inboxes["u"].total) == (1, 1, 1)
        assert not store.contents.inboxes["u"].remembers(state.sequence)
        assert store.contents.load(Needs("", 0, ids={"a", "lost", "b"})).records == [there]
        await store.close()


@pytest.mark.usefixtures("small")
async def test_file_without_its_journal_is_refused(file: Path, store: JsonStore) -> None:
    """A file without the journal in which it goes on is not taken for the whole, unless somebody says that it is."""
    for id_ in numbers(3):
        await add(store, id_)
        await written(store)
    copy = file.with_name("copy.json")
    await asyncio.to_thread(shutil.copy, file, copy)
    for read_only in (True, False):
        with pytest.raises(StartError, match="create an empty file with this name") as info:
            await JsonStore(str(copy), read_only=read_only).open()
    missing = str(info.value).partition(" continues in ")[2].partition(",")[0]
    await asyncio.to_thread(copy.with_name(missing).touch)
    assert await opened(copy) == set(numbers(3))
