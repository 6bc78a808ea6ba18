"""The contents: all records in memory, by user, for a store whose file is only read at the start."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from msgspec import UNSET, structs

from ...inbox.store import Changes, Counts, Loaded, Needs, Query
from ...records import Deletion, Inbox, Mark, Payload, Record, Sending


class Snapshot(NamedTuple):
    """All records at one moment."""

    inboxes: list[Inbox]
    records: list[Record]
    deletions: list[Deletion]
    sendings: list[Sending]


class Contents:
    """Inboxes with their notifications, oldest first."""

    def __init__(self) -> None:
        self.inboxes: dict[str, Inbox] = {}
        self.records: dict[str, dict[str, Record]] = {}
        self.deletions: dict[str, list[Deletion]] = {}
        self.sendings: dict[tuple[str, str], Sending] = {}
        self._users: dict[str, str] = {}  # by notification id: the owner of its inbox
        self._payloads: dict[str, Payload] = {}
        self._uses: Counter[str] = Counter()  # by payload id: number of its notifications

    def __len__(self) -> int:
        return len(self._users)

    def apply(self, changes: Changes) -> int:
        """Apply changes; return the bytes that the deleted payloads counted."""
        gone: list[Record] = []
        for user in changes.cleared:
            gone += self._clear(user)
        for id_ in changes.removed:
            user = self._users.pop(id_, "")
            if user:
                gone.append(self.records[user].pop(id_))
        for mark in changes.updated:
            if mark.id in self._users:  # otherwise its notification was in a journal that was lost
                self._mark(mark)
        for record in changes.added:
            self.put(record)
        for deletion in changes.deletions:
            self._remember(deletion)
        for sending in changes.sendings:
            # Added at the end, since it expires last.
            self.sendings.pop((sending.sender, sending.key), None)
            self.sendings[sending.sender, sending.key] = sending
        for inbox in changes.inboxes:
            self.inboxes[inbox.user_id] = inbox
            self._trim(inbox)
        for user in changes.forgotten:
            gone += self._clear(user)
            self.inboxes.pop(user, None)
        for key in changes.unsent:
            self.sendings.pop(key, None)
        return self._release(gone)

    def put(self, record: Record) -> None:
        """Add a notification that is newer than all others in its inbox."""
        if record.payload_id is not UNSET:
            self._uses[record.payload_id] += 1
            payload = self._payloads.setdefault(record.payload_id, Payload(record.payload_id, record.data))
            if payload.data is not record.data:
                record = structs.replace(record, data=payload.data)
        self._users[record.id] = record.user_id
        self.records.setdefault(record.user_id, {})[record.id] = record

    def correct_states(self) -> None:
        """Correct the states of inboxes that do not match their records, after an edit of the file or a lost journal.

        All numbers of such an inbox become unusable for resuming, since devices may have received lost changes. `due`
        is only
        corrected if it is too late: in any store, it may be too early.
        """
        for user, inbox in self.inboxes.items():
            records = list(self.records.get(user, {}).values())
            total, unread = len(records), sum(not record.read for record in records)
            deletions = self.deletions.get(user, ())
            last = max((one.sequence for one in (*records, *deletions)), default=0)
            if (inbox.total, inbox.unread) != (total, unread) or last > inbox.sequence:
                inbox.sequence = max(inbox.sequence, last)
                inbox.forget()
            inbox.total, inbox.unread = total, unread
            inbox.measure((record.size for record in records), len(deletions))
            if records:
                first = min(record.expires_at for record in records)
                inbox.due = min(inbox.due or first, first)
                inbox.newest = max(inbox.newest, records[-1].created_at)

    def load(self, needs: Needs) -> Loaded:
        """Return the records that a batch needs."""
        users = set(needs.users)
        users.update(self._users[id_] for id_ in needs.revoked if id_ in self._users)
        loaded = Loaded()
        for user in users & self.inboxes.keys():
            inbox = loaded.inboxes[user] = structs.replace(self.inboxes[user])
            self._load(inbox, needs, loaded)
        for id_ in needs.ids | needs.revoked:
            if id_ in self._users:
                loaded.records.append(self.records[self._users[id_]][id_])
        loaded.sendings = {key: self.sendings[key] for key in needs.sendings if key in self.sendings}
        return loaded

    def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications of an inbox that have not expired, newest first."""
        matching = (
            record
            for record in reversed(self.records.get(user, {}).values())
            if (query.before is None or record.created_at < query.before)
            and not (query.unread and record.read)
            and (not query.types or record.type in query.types)
            and record.expires_at > now
        )
        return list(islice(matching, query.limit))

    def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return the changes of an inbox after number `since`, in order."""
        changed: list[Record | Deletion] = []
        changed += (record for record in self.records.get(user, {}).values() if record.sequence > since)
        changed += (deletion for deletion in self.deletions.get(user, ()) if deletion.sequence > since)
        return sorted(changed, key=lambda one: one.sequence)

    def due(self, now: str) -> Iterator[str]:
        """Yield users with expired notifications, and with expired empty inboxes."""
        return (user for user, inbox in self.inboxes.items() if inbox.due <= now)

    def clean(self, now: str) -> int:
        """Delete expired sendings; return the bytes that they counted."""
        # All are checked: a sending that was made while the clock was ahead is among the first and expires late.
        expired = [key for key, sending in self.sendings.items() if sending.expires_at <= now]
        return sum(self.sendings.pop(key).size for key in expired)

    def counts(self) -> Counts:
        """Return the numbers of records."""
        return Counts(
            notifications=len(self),
            unread=sum(inbox.unread for inbox in self.inboxes.values()),
            inboxes=len(self.inboxes),
            deletions=sum(map(len, self.deletions.values())),
            sendings=len(self.sendings),
        )

    def size(self) -> int:
        """Return the bytes that all records count."""
        inboxes = sum(inbox.size for inbox in self.inboxes.values())
        payloads = sum(payload.size for payload in self._payloads.values())
        return inboxes + payloads + sum(sending.size for sending in self.sendings.values())

    def snapshot(self) -> Snapshot:
        """Return all records of this moment; later changes do not affect the result."""
        return Snapshot(
            list(self.inboxes.values()),
            [record for records in self.records.values() for record in records.values()],
            [deletion for deletions in self.deletions.values() for deletion in deletions],
            list(self.sendings.values()),
        )

    def content(self, size: int) -> Iterator[Changes]:
        """Yield all records in parts of about `size` records; nothing may change in the meantime."""
        piece = Changes()
        for inbox in list(self.inboxes.values()):
            piece.inboxes.append(inbox)
            piece.added += self.records.get(inbox.user_id, {}).values()
            piece.deletions += self.deletions.get(inbox.user_id, ())
            if len(piece.added) + len(piece.deletions) + len(piece.inboxes) >= size:
                yield piece
                piece = Changes()
        sendings = list(self.sendings.values())
        for start in range(0, len(sendings), size):
            piece.sendings = sendings[start : start + size]
            yield piece
            piece = Changes()
        yield piece

    def _load(self, inbox: Inbox, needs: Needs, loaded: Loaded) -> None:
        user = inbox.user_id
        records = self.records.get(user, {})
        if inbox.due <= needs.now:
            loaded.records += (record for record in records.values() if record.expires_at <= needs.now)
            rest = [record.expires_at for record in records.values() if record.expires_at > needs.now]
            if rest:
                loaded.due[user] = min(rest)
        if user in needs.unread:
            loaded.records += (record for record in records.values() if not record.read)
        too_many = inbox.total + needs.users[user] - needs.room
        if needs.room and needs.users[user] and too_many > 0:
            loaded.records += islice(records.values(), too_many)
            loaded.records += islice((record for record in records.values() if record.read), too_many)

    def _remember(self, deletion: Deletion) -> None:
        deletions = self.deletions.setdefault(deletion.user_id, [])
        if not deletions or deletion.sequence > deletions[-1].sequence:
            deletions.append(deletion)

    def _trim(self, inbox: Inbox) -> None:
        """Delete the records of deletions before the horizon of an inbox."""
        deletions = self.deletions.get(inbox.user_id)
        if deletions and deletions[0].sequence <= inbox.horizon:
            kept = bisect_right(deletions, inbox.horizon, key=lambda one: one.sequence)
            self.deletions[inbox.user_id] = deletions[kept:]

    def _mark(self, mark: Mark) -> None:
        record = self.records[mark.user_id][mark.id]
        marked = structs.replace(record, read=mark.read, read_at=mark.read_at, sequence=mark.sequence)
        self.records[mark.user_id][mark.id] = marked

    def _clear(self, user: str) -> list[Record]:
        records = self.records.pop(user, {})
        for id_ in records:
            del self._users[id_]
        self.deletions.pop(user, None)
        return list(records.values())

    def _release(self, gone: list[Record]) -> int:
        """Delete payloads without notifications; return the bytes that they counted."""
        size = 0
        for record in gone:
            if record.payload_id is not UNSET:
                self._uses[record.payload_id] -= 1
                if not self._uses[record.payload_id]:
                    del self._uses[record.payload_id]
                    size += self._payloads.pop(record.payload_id).size
        return size
