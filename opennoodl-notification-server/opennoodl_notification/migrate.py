"""The migration: copies all data of one store to another.

It goes inbox by inbox, each as a whole or not at all, so one that was broken off is taken up again by the same command.
"""

from hashlib import blake2b

import msgspec
from msgspec import structs

from .inbox.store import Changes, Counts, Needs, Store
from .records import Inbox

PIECE = 500
"""Notifications that are brought over at once, or more where a single inbox has more."""

NOT_EMPTY = "it has to be empty, or what a migration of this source has left unfinished; nothing was written"


class MigrationError(Exception):
    """A migration that cannot go on; the text is one line that says why."""


class Migration:
    """A migration, piece by piece.

    Args:
        source: what is brought over; nobody else may change it meanwhile.
        target: where it is brought; empty, or holding a part of the same.

    Attributes:
        done: notifications that are in the target by now.
    """

    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        self.done = 0

    async def run(self) -> None:
        """Bring everything over, and see that it is all there.

        Raises:
            MigrationError: the target holds something else, and nothing was written; or what has been written is not
                what the source holds.
            StoreError: one of the stores failed; the same again goes on from there.
        """
        await self._inspect_target()
        async for piece in self._source.content(PIECE):
            await self._bring(piece)
        source, target = await self._source.counts(), await self._target.counts()
        if source != target:
            raise MigrationError(f"the counts differ: {_text(source)} in the source, {_text(target)} in the target")
        if await _digest(self._source) != await _digest(self._target):
            raise MigrationError("the counts are the same, but something in the target is not as it is in the source")

    async def _inspect_target(self) -> None:
        """See that the target is empty, or holds a part of the source and nothing else."""
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

    async def _bring(self, piece: Changes) -> None:
        needs = Needs("", 0)
        needs.users.update({inbox.user_id: 0 for inbox in piece.inboxes})
        piece.inboxes = [_measured(inbox, piece) for inbox in piece.inboxes]
        async with self._target.transaction(needs) as transaction:
            there = transaction.loaded.inboxes
            piece.inboxes = [inbox for inbox in piece.inboxes if inbox.user_id not in there]
            new = [record for record in piece.added if record.user_id not in there]
            self.done += len(piece.added) - len(new)
            piece.added = new
            piece.deletions = [deletion for deletion in piece.deletions if deletion.user_id not in there]
            if piece:
                await transaction.commit(piece)
        self.done += len(new)


def _measured(inbox: Inbox, piece: Changes) -> Inbox:
    """Return a state without its epoch, which has no meaning in another store, and with its true size."""
    measured = structs.replace(inbox, epoch=0)
    gone = sum(deletion.user_id == inbox.user_id for deletion in piece.deletions)
    measured.measure((record.size for record in piece.added if record.user_id == inbox.user_id), gone)
    return measured


def _comparable(inbox: Inbox) -> Inbox:
    """Return what is the same of a state in two stores: the epochs differ, and sizes are upper bounds."""
    return structs.replace(inbox, epoch=0, size=0, gone=0)


def _text(counts: Counts) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts._asdict().items())


async def _digest(store: Store) -> int:
    """Return a number for all that a store holds, in whatever order it yields it."""
    total = 0
    async for piece in store.content(PIECE):
        for row in (*map(_comparable, piece.inboxes), *piece.added, *piece.deletions, *piece.sendings):
            # A file whose server was killed has spaces where there were line breaks.
            content = msgspec.json.encode(row).replace(b"\n", b" ")
            total += int.from_bytes(blake2b(content, digest_size=16).digest())
    return total
