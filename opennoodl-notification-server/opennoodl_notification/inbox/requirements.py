"""The requirements of a message: the records that the store has to load before a batch can carry it out."""

from ..messages import (
    DeleteNotification,
    Incoming,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    RevokeNotification,
    SendNotification,
)
from ..records import sending_size
from .send_quota import SendQuota
from .store import Needs


def need(needs: Needs, user: str, incoming: Incoming, *, address: str, quota: SendQuota, now: int) -> None:
    """Add to `needs` the records that a message of `user` needs.

    Args:
        needs: the needs of the batch.
        user: the user of the request.
        incoming: the message.
        address: the address of the connection.
        quota: counts sendings. If it does not allow this one, the inboxes of the receivers are not needed.
        now: the time in milliseconds.
    """
    match incoming:
        case SendNotification(idempotency_key=key, targets=targets):
            if quota.has(user, address, len(targets), sending_size(user, targets, incoming.data), now / 1000):
                needs.users.update(targets)
            if key is not None:
                needs.sendings.add((user, key))
        case RevokeNotification():
            needs.revoked.update(incoming.ids)
        case MarkRead() | DeleteNotification():
            needs.users[user] += 0
            needs.ids.update(incoming.ids)
        case MarkUnread():
            # These may be the ones to delete for new ones. If they are no longer read, others must be loaded for that.
            needs.users[user] += len(incoming.ids)
            needs.ids.update(incoming.ids)
        case MarkAllRead():
            needs.users[user] += 0
            needs.unread.add(user)
        case _:
            needs.users[user] += 0
