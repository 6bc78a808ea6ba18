"""Wrong clocks: refuses to start with a clock that is behind, and corrects dates from a clock that was ahead."""

from collections.abc import Iterator
from time import time

from msgspec import UNSET, structs

from .edge.errors import StartError
from .inbox.store import Changes, Needs, Store
from .records import Inbox, Record, Sending, milliseconds, timestamp

DAY = 86_400_000
"""Milliseconds. Records whose date is later than now by more than this have the date of a wrong clock."""
PIECE = 500
"""Notifications that are read at a time; more if a single inbox has more."""


async def check_clock(store: Store, now: int) -> int:
    """Check that the clock is not behind: new notifications would expire when it is corrected.

    Args:
        store: the store of the notifications.
        now: the time, in milliseconds.

    Returns:
        the time of the newest notification in milliseconds; `now` if there has never been one.

    Raises:
        StartError: the newest notification is dated more than a day after now.
    """
    newest = await store.newest()
    if newest > timestamp(now + DAY):
        raise StartError(
            f"the clock says {timestamp(now)}, but there are notifications of {newest}; set the clock, or run the "
            "command `redate` if the clock is right"
        )
    return milliseconds(newest) if newest else now


async def redate(store: Store, ttl_days: int) -> tuple[int, int]:
    """Set all dates in the future to the present; the order in an inbox does not change.

    Devices get their whole list when they connect again. With PostgreSQL, servers may run at the same time.

    Args:
        store: the store to correct.
        ttl_days: days until a notification expires.

    Returns:
        the numbers of corrected notifications and of their inboxes.

    Raises:
        StoreError: some of them could not be corrected; this can be repeated.
    """
    notifications = inboxes = 0
    changed = True
    while changed:  # again for inboxes that a server has changed since they were read
        changed = False
        async for piece in store.content(PIECE):
            now = int(time() * 1000)
            for inbox in piece.inboxes:
                records = [record for record in piece.added if record.user_id == inbox.user_id]
                if not _is_ahead(inbox, records, timestamp(now + DAY), timestamp(now + (ttl_days + 1) * DAY)):
                    continue
                if not await _replace(store, inbox, list(_redated(records, now, ttl_days)), now, ttl_days):
                    changed = True
                else:
                    inboxes += 1
                    notifications += sum(record.created_at > timestamp(now + DAY) for record in records)
            late = [sending for sending in piece.sendings if sending.expires_at > timestamp(now + 2 * DAY)]
            if late:
                await _replace_sendings(store, late, now)
    return notifications, inboxes


def _is_ahead(inbox: Inbox, records: list[Record], limit: str, last_due: str) -> bool:
    """Return whether a record or the inbox has a date from a clock that was ahead."""
    if inbox.newest > limit or (not inbox.total and inbox.due > last_due):
        return True
    read = (record.read_at for record in records if record.read_at is not UNSET)
    return any(record.created_at > limit for record in records) or any(moment > limit for moment in read)


def _redated(records: list[Record], now: int, ttl_days: int) -> Iterator[Record]:
    """Yield the notifications of an inbox, oldest first, with no date after now."""
    records = sorted(records, key=lambda record: record.created_at)
    last = 0
    for number, record in enumerate(records, 1):
        created, read_at = milliseconds(record.created_at), record.read_at
        expires_at = record.expires_at
        if created > now + DAY:
            created = max(last + 1, now - len(records) + number)
            expires_at = timestamp(created + ttl_days * DAY)
        if read_at is not UNSET and read_at > timestamp(now + DAY):
            read_at = timestamp(now)
        last = created
        yield structs.replace(record, created_at=timestamp(created), expires_at=expires_at, read_at=read_at)


async def _replace(store: Store, inbox: Inbox, records: list[Record], now: int, ttl_days: int) -> bool:
    """Replace the notifications of an inbox, unless it has changed since; return whether they were replaced."""
    user = inbox.user_id
    needs = Needs("", 0)
    needs.users[user] = 0
    async with store.transaction(needs) as transaction:
        state = transaction.loaded.inboxes.get(user)
        if state is None or state.sequence != inbox.sequence:
            return False
        state.advance(transaction.loaded.epoch, now)
        state.forget()
        state.newest = records[-1].created_at if records else ""
        state.due = min((record.expires_at for record in records), default=timestamp(now + ttl_days * DAY))
        state.measure((record.size for record in records), 0)
        await transaction.commit(Changes(cleared=[user], added=records, inboxes=[state]))
    return True


async def _replace_sendings(store: Store, sendings: list[Sending], now: int) -> None:
    """Set the expiry of idempotency keys to a day from now."""
    changed = [structs.replace(sending, expires_at=timestamp(now + DAY)) for sending in sendings]
    needs = Needs("", 0, sendings={(sending.sender, sending.key) for sending in sendings})
    async with store.transaction(needs) as transaction:
        await transaction.commit(Changes(sendings=changed))
