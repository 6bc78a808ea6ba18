"""The JSON file: what was committed is in it, whole, and still there when the next write fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opennoodl_notification.edge.application import StartError
from opennoodl_notification.store_json import JsonStore
from tinydb import TinyDB

from .conftest import OpenStore
from .harness import NOW, TIMEOUT, found, record, stored

ODD = [
    b'{"a" : 1.0, "b":"\\u00fc", "c":"\\/"}',
    '{"ü":"☃ 😀 \u2028"}'.encode(),
    b'"\\ud83d\\ude00"',
    b"[1E+5,-0.0,0.1e-7,1e999]",
    b"123456789012345678901234567890.5",
    b"[ [ ],\n{ }\t]",
    b'{"a":1,"a":2}',
    b"null",
    b'""',
]
"""JSON that would not survive being decoded and encoded."""
OLD = {id_: record(id_, created=NOW + number) for number, id_ in enumerate(("one", "two", "three"))}


@pytest.fixture
def store(open_store: OpenStore) -> JsonStore:
    """Return a store with three notifications."""
    store = open_store()
    store.commit(dict(OLD))
    return store


# Committing


def test_new(file: Path, open_store: OpenStore) -> None:
    """Without a file there is nothing stored; it comes with the first notification."""
    store = open_store()
    assert store.load() == []
    assert not file.exists()
    store.commit({"1": record("1")})
    assert file.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"notifications":{}}', b'{"notifications": {}}\n'])
def test_empty(file: Path, open_store: OpenStore, content: bytes) -> None:
    """An empty file, and one without notifications, is an empty store."""
    file.write_bytes(content)
    store = open_store()
    assert store.load() == []
    store.commit({"1": record("1")})
    assert set(found(open_store())) == {"1"}


def test_directory_is_made(tmp_path: Path) -> None:
    """The file's directory is made."""
    path = tmp_path / "a" / "b" / "n.json"
    store = JsonStore(str(path))
    store.commit({"1": record("1")})
    store.close()
    assert set(stored(path)) == {"1"}


def test_round_trip(open_store: OpenStore, store: JsonStore) -> None:
    """What was committed is there after a restart, with everything that was in it."""
    full = record("4", "v", type="mention", read=True, read_at="2024-01-01T00:00:00.000Z", idempotency_key="k")
    store.commit({"4": full})
    assert found(open_store()) == {**OLD, "4": full}


def test_commit_of_several(open_store: OpenStore, store: JsonStore) -> None:
    """New, changed and removed notifications are one commit; what it does not name stays."""
    changed = record("one", created=NOW, read=True, read_at="2024-01-01T00:00:00.000Z")
    store.commit({"one": changed, "two": None, "new": record("new"), "never": None})
    assert found(open_store()) == {"one": changed, "three": OLD["three"], "new": record("new")}


def test_commits_one_after_the_other(open_store: OpenStore, store: JsonStore) -> None:
    """A notification can change, go and come again in commits that follow each other, over restarts."""
    for _ in range(3):
        store.commit({"one": record("one", read=True, read_at="2024-01-01T00:00:00.000Z")})
        store.commit({"one": None})
        store.commit({"one": OLD["one"], "two": None})
        store.commit({"two": OLD["two"]})
        store = open_store()
        assert found(store) == OLD


@pytest.mark.parametrize("data", ODD)
def test_data_is_kept(file: Path, open_store: OpenStore, data: bytes) -> None:
    """Data is kept byte for byte, over restarts and commits of others."""
    open_store().commit({"odd": record("odd", data=data)})
    for number in range(2):
        store = open_store()
        assert bytes(found(store)["odd"].data) == data
        store.commit({str(number): record(str(number))})
    assert data in file.read_bytes()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(texts, st.tuples(texts, jsons, st.booleans()), min_size=1, max_size=4))
def test_any_content(tmp_path: Path, content: dict[str, tuple[str, Any, bool]]) -> None:
    """Whatever ids, users and data there are, they come back."""
    path = tmp_path / "any.json"
    path.unlink(missing_ok=True)
    records = {
        id_: record(id_, user, data=json.dumps(data, ensure_ascii=ascii_).encode())
        for id_, (user, data, ascii_) in content.items()
    }
    store = JsonStore(str(path))
    store.commit(dict(records))
    store.close()
    assert stored(path) == records


def test_the_file_is_tinydbs(file: Path, store: JsonStore) -> None:
    """TinyDB itself reads the file: a community can look into its data, or go away with it."""
    store.close()
    with TinyDB(file) as db:
        documents = db.table("notifications").all()
    assert [document["id"] for document in documents] == ["one", "two", "three"]
    assert documents[0]["createdAt"] == "2023-11-14T22:13:20.000Z"


def test_what_tinydb_wrote(file: Path, open_store: OpenStore, store: JsonStore) -> None:
    """A file that TinyDB itself has written is read, and other tables in it stay."""
    store.close()
    with TinyDB(file, indent=2) as db:
        db.table("others").insert({"a": [1.0]})
        db.table("notifications").update({"read": True})
    store = open_store()
    assert all(record.read for record in found(store).values())
    store.commit({"one": None})
    store.close()
    with TinyDB(file) as db:
        assert db.table("others").all() == [{"a": [1.0]}]


# Files that cannot be used


def refused(file: Path) -> str:
    """Return the one line that says why a file cannot be used."""
    with pytest.raises(StartError) as info:
        JsonStore(str(file))
    line = str(info.value)
    assert str(file) in line
    assert "\n" not in line
    return line


def document(**fields: Any) -> bytes:
    """Return a file with one notification, with other `fields` than it should have; None for none."""
    good = {
        "id": "1",
        "userId": "u",
        "fromUserId": "s",
        "type": "invite",
        "data": {},
        "read": False,
        "createdAt": "2023-11-14T22:13:20.000Z",
        "expiresAt": "2023-12-14T22:13:20.000Z",
    }
    one = {name: value for name, value in {**good, **fields}.items() if value is not None}
    return json.dumps({"notifications": {"1": one}}).encode()


DAMAGED: dict[str, bytes] = {
    "no JSON": b"notifications",
    "cut off": document()[:-1],
    "half": document()[:100],
    "more than one": document() + b"{}",
    "zeros": bytes(1000),
    "binary": bytes(range(256)),
    "UTF-16": document().decode().encode("utf-16"),
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "tables in a list": b'{"notifications":[]}',
    "no number": document().replace(b'{"1":', b'{"x":'),
    "no notification": b'{"notifications":{"1":{}}}',
    "a text for a notification": b'{"notifications":{"1":"x"}}',
    "too deep": b'{"notifications":{"1":{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
    "no id": document(id=None),
    "no user": document(userId=None),
    "no data": document(data=None),
    "unknown type": document(type="party"),
    "read is no truth value": document(read="yes"),
    "no time": document(createdAt="yesterday"),
    "no expiry": document(expiresAt="never"),
    "time of reading is none": document(read=True, readAt="today"),
    "time without a zone": document(createdAt="2023-11-14T22:13:20.000"),
}


def test_undamaged(file: Path, open_store: OpenStore) -> None:
    """The file from which the damaged ones are made is a good one."""
    file.write_bytes(document())
    assert set(found(open_store())) == {"1"}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(file: Path, name: str) -> None:
    """A damaged file stops the start with one line that says so, and is left as it is."""
    content = DAMAGED[name]
    file.write_bytes(content)
    assert "damaged" in refused(file)
    assert file.read_bytes() == content


def test_damaged_and_repaired(file: Path, open_store: OpenStore) -> None:
    """A file that was refused can be used as soon as it is repaired."""
    file.write_bytes(b"x")
    refused(file)
    file.write_bytes(document())
    assert set(found(open_store())) == {"1"}


def test_directory(file: Path) -> None:
    """A directory in the file's place stops the start, and stays."""
    file.mkdir()
    (file / "inside").touch()
    refused(file)
    assert (file / "inside").exists()


def test_no_directory(tmp_path: Path) -> None:
    """A file where the directory should be stops the start, and stays."""
    (tmp_path / "a").write_text("a")
    refused(tmp_path / "a" / "notifications.json")
    assert (tmp_path / "a").read_text() == "a"


def test_in_use(file: Path, open_store: OpenStore) -> None:
    """A file is held by one store at a time, and free again when that is closed."""
    store = open_store()
    store.commit({"1": record("1")})
    before = file.read_bytes()
    assert "in use" in refused(file)
    assert file.read_bytes() == before
    store.close()
    assert set(stored(file)) == {"1"}


def test_in_use_after_commits(file: Path, open_store: OpenStore) -> None:
    """A file is held also after it was replaced."""
    store = open_store()
    for number in range(3):
        store.commit({str(number): record(str(number))})
    assert "in use" in refused(file)


HOLD = """
import sys
from opennoodl_notification.store_json import JsonStore
store = JsonStore(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_in_use_by_another_process(file: Path) -> None:
    """What another process holds cannot be used, until that process ends, in whatever way."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            assert "in use" in refused(file)
        finally:
            process.kill()
        process.wait(TIMEOUT)
        assert stored(file) == {}
