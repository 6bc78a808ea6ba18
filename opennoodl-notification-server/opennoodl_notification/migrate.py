"""The migration: copies all records of one store to another.

It copies each inbox atomically. The same command continues a migration that was interrupted.
"""

from hashlib import blake2b

import msgspec
from msgspec import structs

from .edge.command_line import counted
from .inbox.store import Changes, Counts, Needs, Store
from .records import Inbox

PIECE = 500
"""Notifications that are copied at a time; more if a single inbox has more."""

NOT_EMPTY = "it has to be empty, or what a migration of this source has left unfinished; nothing was written"


class MigrationError(Exception):
    """A migration cannot continue; the text is the reason, in one line."""


class Migration:
    """A migration in parts.

    Args:
        source: the store to copy; nobody may change it in the meantime.
        target: the store to write; empty, or with a part of the source.

    Attributes:
        done: the number of notifications in the target.
    """

    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        self._written = False
        self.done = 0

    async def run(self) -> None:
        """Copy all records, and verify the result.

        Raises:
            MigrationError: the target has other records, and nothing was written; or the result differs from the
                source.
            StoreError: one of the stores failed; the same call continues the migration.
        """
        await self._inspect_target()
        async for piece in self._source.content(PIECE):
            await self._copy(piece)
        source, target = await self._source.counts(), await self._target.counts()
        if source != target:
            raise MigrationError(f"the counts differ: {_text(source)} in the source, {_text(target)} in the target")
        if await _digest(self._source) != await _digest(self._target):
            if not self._written:
                raise MigrationError(f"the target has other records than the source; {NOT_EMPTY}")
            raise MigrationError("the counts are the same, but something in the target is not as it is in the source")

    async def _inspect_target(self) -> None:
        """Check that the target is empty or has only a part of the source."""
        there = await self._target.counts()
        if not any(there):
            return
        inboxes = notifications = deletions = sendings = 0
        async for piece in self._source.content(PIECE):
            needs = Needs("", 0)
            needs.users.update({inbox.user_id: 0 for inbox in piece.inboxes})
            needs.sendings.update((sending.sender, sending.key) for sending in piece.sendings)
            async with self._target.transaction(needs) as transaction:
                loaded = transaction.loaded
            for inbox in piece.inboxes:
                if inbox.user_id in loaded.inboxes:
                    if _comparable(loaded.inboxes[inbox.user_id]) != _comparable(inbox):
                        raise MigrationError(f"the target has another inbox of {inbox.user_id!r}; {NOT_EMPTY}")
                    inboxes += 1
                    notifications += inbox.total
            deletions += sum(deletion.user_id in loaded.inboxes for deletion in piece.deletions)
            sendings += sum(loaded.sendings.get((one.sender, one.key)) == one for one in piece.sendings)
        known = Counts(notifications, there.unread, inboxes, deletions, sendings)
        if known != there:
            raise MigrationError(f"the target has {_text(there)}, of which the source has {_text(known)}; {NOT_EMPTY}")

    async def _copy(self, piece: Changes) -> None:
        needs = Needs("", 0)
        needs.users.update({inbox.user_id: 0 for inbox in piece.inboxes})
        needs.sendings.update((sending.sender, sending.key) for sending in piece.sendings)
        piece.inboxes = [_measured(inbox, piece) for inbox in piece.inboxes]
        async with self._target.transaction(needs) as transaction:
            there, known = transaction.loaded.inboxes, transaction.loaded.sendings
            piece.sendings = [one for one in piece.sendings if (one.sender, one.key) not in known]
            piece.inboxes = [inbox for inbox in piece.inboxes if inbox.user_id not in there]
            new = [record for record in piece.added if record.user_id not in there]
            self.done += len(piece.added) - len(new)
            piece.added = new
            piece.deletions = [deletion for deletion in piece.deletions if deletion.user_id not in there]
            if piece:
                await transaction.commit(piece)
                self._written = True
        self.done += len(new)


def _measured(inbox: Inbox, piece: Changes) -> Inbox:
    """Return a state without its epoch, which is different in each store, and with its exact size."""
    measured = structs.replace(inbox, epoch=0)
    gone = sum(deletion.user_id == inbox.user_id for deletion in piece.deletions)
    measured.measure((record.size for record in piece.added if record.user_id == inbox.user_id), gone)
    return measured


def _comparable(inbox: Inbox) -> Inbox:
    """Return the parts of a state that are equal in two stores: epochs differ, and sizes are upper limits."""
    return structs.replace(inbox, epoch=0, size=0, gone=0)


def _text(counts: Counts) -> str:
    notifications = f"{counted(counts.notifications, 'notification')} ({counts.unread} unread)"
    others = counted(counts.deletions, "deletion"), counted(counts.sendings, "sending")
    return ", ".join((notifications, counted(counts.inboxes, "inbox", "inboxes"), *others))


async def _digest(store: Store) -> int:
    """Return a hash of all records of a store, independent of their order."""
    total = 0
    async for piece in store.content(PIECE):
        for row in (*map(_comparable, piece.inboxes), *piece.added, *piece.deletions, *piece.sendings):
            # In a journal, line breaks have become spaces.
            content = msgspec.json.encode(row).replace(b"\n", b" ")
            total += int.from_bytes(blake2b(content, digest_size=16).digest())
    return total
