"""Personal data: all records of one user in a store, to export or to erase them."""

from time import time

from msgspec import Struct, field

from .inbox.batch import Batch
from .inbox.send_quota import SendQuota
from .inbox.store import Changes, Needs, Store
from .records import Deletion, Inbox, Record, Sending, Type

PIECE = 500
"""Notifications that are read at a time; more if a single inbox has more."""
PORTION = 200
"""Notifications that are erased at a time."""


class SentNotification(Struct, rename="camel"):
    """A notification in another user's inbox, without that user's own marks."""

    id: str
    user_id: str
    type: Type
    data: object
    created_at: str
    expires_at: str


class Person(Struct, rename="camel"):
    """The records of one user in a store.

    Attributes:
        user_id: the id of the user.
        inbox: the state of the inbox, or None.
        received: the notifications in it, including expired ones.
        deleted: the records of its deletions.
        sent: notifications from this user, in all inboxes.
        idempotency_keys: the records of sendings with a key.
    """

    user_id: str
    inbox: Inbox | None = None
    received: list[Record] = field(default_factory=list)
    deleted: list[Deletion] = field(default_factory=list)
    sent: list[SentNotification] = field(default_factory=list)
    idempotency_keys: list[Sending] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.inbox is not None or any((self.received, self.deleted, self.sent, self.idempotency_keys))


async def find(store: Store, user: str) -> Person:
    """Return the records of a user; this reads the whole store.

    Raises:
        StoreError: the store could not be read.
    """
    person = Person(user)
    async for piece in store.content(PIECE):
        person.inbox = next((inbox for inbox in piece.inboxes if inbox.user_id == user), person.inbox)
        person.received += (record for record in piece.added if record.user_id == user)
        person.deleted += (deletion for deletion in piece.deletions if deletion.user_id == user)
        person.sent += (_sent(record) for record in piece.added if record.from_user_id == user)
        person.idempotency_keys += (sending for sending in piece.sendings if sending.sender == user)
    return person


async def erase(store: Store, person: Person, ttl_days: int) -> None:
    """Erase the records that `find` has returned, also in the backups that the store keeps itself.

    Other users' devices get the deletions when they connect again, or from a server that uses the same PostgreSQL. The
    command can be repeated after an interruption.

    Args:
        store: the store with the records.
        person: the records.
        ttl_days: days until the emptied inbox is deleted.

    Raises:
        StoreError: some records could not be erased.
    """
    user = person.user_id
    ids = [sent.id for sent in person.sent if sent.user_id != user]
    for start in range(0, len(ids), PORTION):
        some = ids[start : start + PORTION]
        now = int(time() * 1000)
        async with store.transaction(Needs("", 0, revoked=set(some))) as transaction:
            batch = Batch(transaction.loaded, now, ttl_days, 0, SendQuota(0), expiry="")
            batch.remove_sent(user, some)
            if changes := batch.changes():
                await transaction.commit(changes)
    own = Changes(
        cleared=[user],
        forgotten=[user],
        unsent=[(sending.sender, sending.key) for sending in person.idempotency_keys],
    )
    needs = Needs("", 0)
    needs.users[user] = 0
    async with store.transaction(needs) as transaction:
        await transaction.commit(own)
    await store.purge()


def _sent(record: Record) -> SentNotification:
    return SentNotification(record.id, record.user_id, record.type, record.data, record.created_at, record.expires_at)
