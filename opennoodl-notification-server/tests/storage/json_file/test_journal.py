"""A journal gives back what was confirmed, and nothing that was not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opennoodl_notification.inbox.store import Changes
from opennoodl_notification.storage.json_file.journal import PROBE, SECTOR, Journal, JournalError, line, read

from ...harness import DATA, record

CHANGES = [
    Changes(removed=["1"]),
    Changes(added=[record("2", data=b'{"line":"\\n",\n\r\n"\xc3\xbc" : 1.0}')]),
    Changes(cleared=["u"], forgotten=["v"]),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal is made."""
    return tmp_path / "journal.0"


def written(path: Path) -> Journal:
    """Return a journal with three lines."""
    journal = Journal(path)
    for changes in CHANGES:
        journal.append(changes)
    return journal


def texts(path: Path) -> list[bytes]:
    """Return what a journal gives back, as lines."""
    return [line(changes) for changes in read(path)]


LINES = [line(changes) for changes in CHANGES]


def test_appended_lines_are_read_in_order(path: Path) -> None:
    """Appended lines are read in their order, and the size is that of the file."""
    journal = written(path)
    assert texts(path) == LINES
    assert journal.size == path.stat().st_size
    journal.close()


def test_new_journal_is_empty(path: Path) -> None:
    """A new journal has nothing."""
    Journal(path).close()
    assert texts(path) == []


def test_not_in_place_of_another(path: Path) -> None:
    """A new journal takes the place of an empty one, but of none that holds something."""
    Journal(path).close()
    written(path).close()
    with pytest.raises(FileExistsError, match="not empty"):
        Journal(path)
    assert texts(path) == LINES


def test_line_breaks_in_data_are_removed(path: Path) -> None:
    """The senders' line breaks are in no line, and their data says the same without."""
    written(path).close()
    assert path.read_bytes().count(b"\n") == len(LINES)
    (read_again,) = [one for changes in read(path) for one in changes.added]
    (before,) = CHANGES[1].added
    assert msgspec.json.decode(read_again.data) == msgspec.json.decode(before.data)


def test_line_breaks_of_former_versions(path: Path) -> None:
    """A line in which a former version has left line breaks is read; damaged, it is none that may be left out."""
    content = msgspec.json.encode(CHANGES[1])
    assert content.count(b"\n") == 2
    former = b"%08x %s\n" % (crc32(content), content)
    path.write_bytes(LINES[0] + former + former + LINES[2])
    assert texts(path) == [LINES[0], LINES[1], LINES[1], LINES[2]]
    path.write_bytes(LINES[0] + former + former[:20] + b"X" + former[21:])
    with pytest.raises(JournalError, match="line 5 of"):
        texts(path)


def test_data_of_its_own(path: Path) -> None:
    """A record read from a journal keeps only itself in memory, and not its line."""
    journal = Journal(path)
    journal.append(Changes(added=[record("1"), record("2", payload_id="p")]))
    journal.close()
    (changes,) = read(path)
    for one in changes.added:
        assert one.data.copy() is one.data  # as only of what is no view


def test_not_through_a_link(path: Path) -> None:
    """A link in place of a journal is not followed."""
    other = path.with_name("other")
    path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        Journal(path)
    assert not other.exists()


def test_only_for_its_owner(path: Path) -> None:
    """Nobody else on the machine can read a journal."""
    Journal(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_truncated_journal_keeps_its_whole_lines(path: Path) -> None:
    """Cut off anywhere, a journal has the lines that are whole."""
    written(path).close()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        lengths = [len(b"".join(LINES[:number])) for number in range(4)]
        assert texts(path) == LINES[: max(number for number in range(4) if lengths[number] <= size)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_detected(path: Path, data: st.DataObject) -> None:
    """Whatever byte is changed, in the last line too, it is found out."""
    whole = bytearray(b"".join(LINES))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    with pytest.raises(JournalError, match=path.name):
        texts(path)


def test_sector_that_was_not_written(path: Path) -> None:
    """A last line with a sector of zeros, as a power cut leaves it, is left out; fewer zeros are damage."""
    before = line(Changes(removed=["x" * 600]))
    text = line(Changes(added=[record("1", data=b'"%s"' % (b"x" * 1500))]))
    for sector in range(SECTOR, len(before) + len(text), SECTOR):
        whole = bytearray(before + text)
        first, end = max(len(before), sector), min(sector + SECTOR, len(whole))
        whole[first:end] = bytes(end - first)
        path.write_bytes(whole)
        assert texts(path) == [before]
        if end < len(whole):
            whole[first] = ord("x")
            path.write_bytes(whole)
            with pytest.raises(JournalError, match="line 2 of"):
                texts(path)


def test_sound_line_of_nobody(path: Path) -> None:
    """A line with the right sum that says nothing this server knows is named."""
    content = b'{"added":[{"id":5}]}'
    path.write_bytes(b"%08x %s\n" % (crc32(content), content))
    with pytest.raises(JournalError, match="line 1"):
        texts(path)


@pytest.mark.parametrize(("step", "sound"), [("write", True), ("fdatasync", False)])
def test_failed_append_leaves_no_part(path: Path, monkeypatch: pytest.MonkeyPatch, step: str, sound: bool) -> None:
    """A line that could not be brought to disk is not in the journal, not even a part; a full disk does no harm."""
    journal = written(path)
    real = os.write

    def fail(file: int, *content: memoryview) -> int:
        if content:
            real(file, content[0][:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            journal.append(CHANGES[0])
    assert journal.size == path.stat().st_size
    assert texts(path) == LINES
    assert journal.sound is sound
    if sound:
        journal.append(CHANGES[1])
        assert texts(path) == [*LINES, LINES[1]]
    journal.close()


def test_probe_reserves_room_and_adds_nothing(path: Path) -> None:
    """A probe takes as much room as a large message, and says nothing."""
    journal = written(path)
    before = journal.size
    journal.probe()
    journal.append(CHANGES[0])
    assert journal.size == path.stat().st_size > before + PROBE
    assert [text for text in texts(path) if text != line(Changes())] == [*LINES, LINES[0]]
    journal.close()


def test_torn_line_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says that a line was left out, and nothing of it."""
    written(path).close()
    texts(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(path.read_bytes()[:-1])
    texts(path)
    told = capsys.readouterr().out
    assert "incomplete line" in told
    assert "line=3" in told


def test_torn_line_before_another_journal(path: Path) -> None:
    """A line that is not whole may be the end of the last journal only."""
    written(path).close()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-20]):
        path.write_bytes(damaged)
        assert texts(path) == LINES[:2]
        with pytest.raises(JournalError, match="line 3 of"):
            list(read(path, last=False))


def test_torn_line_is_cut_off(path: Path) -> None:
    """A line that is not whole is cut off where that is asked for, and only then."""
    written(path).close()
    torn = path.read_bytes()[:-1]
    path.write_bytes(torn)
    assert len(list(read(path))) == 2
    assert path.read_bytes() == torn
    assert len(list(read(path, mend=True))) == 2
    assert path.read_bytes() == b"".join(LINES[:2])
    assert len(list(read(path, last=False))) == 2


def test_journal_removes_a_failed_line_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that could not take a line back at once does so later."""
    journal = written(path)

    def fail(*_arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append(CHANGES[0])
    assert not journal.sound
    assert texts(path) == [*LINES, LINES[0]]
    journal.mend()
    assert texts(path) == LINES
    journal.close()


def test_partial_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a part at a time is asked again."""
    journal = Journal(path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:7]))
    journal.append(CHANGES[1])
    journal.close()
    assert texts(path) == [LINES[1]]


def test_one_text_for_all_receivers(tmp_path: Path) -> None:
    """The data of a sending to several users is in a line once, and in memory once when it is read again."""
    path = tmp_path / "journal"
    journal = Journal(path)
    changes = Changes(added=[*(record(id_, id_, payload_id="p") for id_ in "ab"), record("c", data=b"1")])
    assert line(changes).count(b"lines") == 1
    journal.append(changes)
    journal.close()
    (changes,) = read(path)
    first, second, other = (one.data for one in changes.added)
    assert first is second
    assert bytes(first) == DATA.replace(b"\n", b" ")
    assert bytes(other) == b"1"


def test_mark_is_stored_without_its_data(path: Path) -> None:
    """A mark is written without the data of its notification; lines of former versions, which had it, are read."""
    marked = record("a", read=True, read_at="2026-11-29T00:00:00.000Z", sequence=2)
    assert b"lines" not in line(Changes(updated=[marked.mark()]))
    former = b'{"updated":[%s]}' % msgspec.json.encode(marked).replace(b"\n", b" ")
    path.write_bytes(b"%08x %s\n" % (crc32(former), former))
    (changes,) = read(path)
    assert changes.updated == [marked.mark()]


@pytest.mark.parametrize(
    ("field", "told"),
    [("payloadId", "the notification 'a' refers to a payload that does not exist"), ("other", "'a' has no `data`")],
)
def test_notification_without_data_is_damage(path: Path, field: str, told: str) -> None:
    """A notification without data is damage."""
    added = {**msgspec.json.decode(msgspec.json.encode(record("a"))), field: "p"}
    del added["data"]
    content = msgspec.json.encode({"added": [added]})
    path.write_bytes(b"%08x %s\n" % (crc32(content), content))
    with pytest.raises(JournalError, match=f"line 1 of journal.0 .*{told}"):
        list(read(path))
