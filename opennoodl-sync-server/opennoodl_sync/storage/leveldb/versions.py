"""The versions of one document in a `Database`.

Size and number of a version are a separate record, so that a list of versions needs no contents. Both records are
written and deleted in one batch.
"""

from io import BytesIO

from ...yjs.lib0 import MalformedError, read_varuint, write_varuint
from ..interface import CorruptError, History, Version
from .database import Database, RecordBatch
from .record_format import key_of, number_element, unseal


class LevelDBVersions:
    """One document's versions in a `Database`.

    Args:
        name: the document's name.
        database: the database.
    """

    def __init__(self, name: str, *, database: Database) -> None:
        self._database = database
        self._updates = key_of("v1", name, "update")
        self._history = key_of("v1", name, "history")
        self._contents = key_of("v1", name, "version")

    def history(self) -> History:
        """Return the versions, and the number of the document's last update.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        versions = self._database.read(self._history, self._version)
        last = self._database.last_key(self._updates)
        return History(versions, -1 if last is None else int.from_bytes(last[-4:], "big"))

    def content(self, time: int) -> bytes | None:
        """Return the content of the version at `time`, or None if there is none.

        Raises:
            StoreError: the disk failed.
            CorruptError: the content is damaged.
        """
        key = self._contents + number_element(time)
        stored = self._database.get(key)
        if stored is not None:
            return self._unsealed(key, BytesIO(stored))
        if self._database.holds(self._history + number_element(time)):
            raise CorruptError(f"the content of version {time} is missing")
        return None

    def add(self, version: Version, content: bytes, batch: RecordBatch) -> None:
        """Add a version to `batch`."""
        about = write_varuint(version.size) + write_varuint(version.last + 1)  # + 1, since -1 is not a varuint
        for prefix, value in ((self._history, about), (self._contents, content)):
            batch.sealed.append((prefix + number_element(version.time), value, 0))

    def drop(self, time: int, batch: RecordBatch) -> None:
        """Add the deletion of a version to `batch`."""
        batch.deletes += [self._history + number_element(time), self._contents + number_element(time)]

    def salvage(self, batch: RecordBatch) -> tuple[dict[int, bytes], int]:
        """Add corrections of the versions of a damaged database to `batch`.

        Returns:
            the undamaged contents by time, and the number of lost versions.

        Raises:
            StoreError: the disk failed.
            CorruptError: the damage is one that LevelDB itself must repair.
        """
        history = dict(self._database.read(self._history, lambda key, stored: (key, stored)))
        contents: dict[int, bytes] = {}
        times = {int.from_bytes(key[-4:], "big") for key in (*history, *self._database.keys(self._contents))}
        for time in sorted(times):
            try:
                content = self.content(time)
            except CorruptError:
                content = None
            if content is None:
                self.drop(time, batch)
                continue
            contents[time] = content
            key = self._history + number_element(time)
            try:
                self._version(key, history.get(key, BytesIO()))
            except CorruptError:
                self.add(Version(time, len(content), -1), content, batch)
        return contents, len(times) - len(contents)

    def _version(self, key: bytes, stored: BytesIO) -> Version:
        value = self._unsealed(key, stored)
        try:
            size, at = read_varuint(value, 0)
            return Version(int.from_bytes(key[-4:], "big"), size, read_varuint(value, at)[0] - 1)
        except MalformedError as error:
            raise CorruptError(f"version {int.from_bytes(key[-4:], 'big')}: {error}") from None

    def _unsealed(self, key: bytes, stored: BytesIO) -> bytes:
        value, first = unseal(key, stored)
        if first is None:  # only this server writes versions, always with a checksum
            raise CorruptError(f"version {int.from_bytes(key[-4:], 'big')}: its checksum is missing")
        return value
