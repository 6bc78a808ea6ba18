"""One person's data: everything that a store holds of a user, to be shown or to be erased."""

from time import time

from msgspec import Struct, field

from .inbox.batch import Batch
from .inbox.send_quota import SendQuota
from .inbox.store import Changes, Needs, Store
from .records import Deletion, Inbox, Record, Sending, Type

PIECE = 500
"""Notifications that are read at once, or more where a single inbox has more."""
PORTION = 200
"""Notifications that are erased at once."""


class SentNotification(Struct, rename="camel"):
    """A notification in another user's inbox, without that user's own marks."""

    id: str
    user_id: str
    type: Type
    data: object
    created_at: str
    expires_at: str


class Person(Struct, rename="camel"):
    """What a store holds of one user.

    Attributes:
        user_id: who it is.
        inbox: the state of the inbox, if there is one.
        received: the notifications in it, expired ones included.
        deleted: what is remembered of those that are gone.
        sent: notifications in the inboxes of others, and in the own one, that say they are from this user.
        idempotency_keys: what is remembered of sendings under a key.
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
    """Return what a store holds of a user; it reads everything that is stored.

    Raises:
        StoreError: it could not be read.
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
    """Erase what `find` has found of a user, also from backups that the store keeps itself.

    Other users' devices learn of it when they come again, or from a server that uses the same PostgreSQL. After an
    interruption it can be repeated.

    Args:
        store: where it is.
        person: what was found in it.
        ttl_days: after which an inbox that this empties is forgotten.

    Raises:
        StoreError: some of it could not be erased.
    """
    user = person.user_id
    ids = [sent.id for sent in person.sent if sent.user_id != user]
    for start in range(0, len(ids), PORTION):
        some = ids[start : start + PORTION]
        now = int(time() * 1000)
        async with store.transaction(Needs("", 0, revoked=set(some))) as transaction:
            batch = Batch(transaction.loaded, now, ttl_days, 0, SendQuota(0), expiry="")
            batch.take_back(user, some)
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
