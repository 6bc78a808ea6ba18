"""The reader: answers requests that only read, after the changes of their batch."""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from .devices import Devices
from .edge.errors import BadMessage
from .inbox.batch import Batch
from .inbox.requests import read
from .inbox.state import Inbox
from .inbox.store import Needs, Store
from .messages import Authenticate, Event
from .queue import Request


class Reader:
    """Answers requests that read.

    Args:
        store: where inboxes are kept.
        devices: who is answered, and becomes a device by `authenticate`.
        most: devices that a user may have at once; 0 means any number.
        enter: what is called with a connection and its user when it may do everything else.
    """

    def __init__(self, store: Store, devices: Devices, most: int, enter: Callable[[Any, str], None]) -> None:
        self._store = store
        self._devices = devices
        self._most = most
        self._enter = enter

    async def answer(self, request: Request, user: str, batch: Batch | None, now: str) -> None:
        """Answer one request.

        Args:
            request: what is asked.
            user: who asks.
            batch: what has been changed right before, if it was stored.
            now: the time.

        Raises:
            BadMessage: the user has too many devices.
            StoreError: the store could not be read.
        """
        device, enters = request.device, isinstance(request.incoming, Authenticate)
        if not device.is_open and not enters:
            return
        devices = self._devices.of(user)
        if self._most and len(devices) >= self._most and device not in devices:
            text = f"This user has {self._most} connections already; close one of them and authenticate again."
            raise BadMessage("too-many-connections", text)
        inbox = batch.inbox(user) if batch is not None else await self._inbox(user, now)
        behind = self._devices.is_behind(device)
        answers = await read(self._store, inbox, request.incoming, now, behind=behind)
        if isinstance(request.incoming, Authenticate):
            # Also of a connection that has ended: what it has asked for after this is still done.
            self._enter(device, user)
            if device.is_open:
                self._devices.add(device, user, inbox.total, behind=request.incoming.since is not None)
        for answer in answers:
            # What the device has missed is told as it was at first.
            self._devices.answer(device, answer, UNSET if isinstance(answer, Event) else request.id)
        # An answer may have half a megabyte: a client that asks for many and does not read is noticed before the next.
        await asyncio.sleep(0)

    async def _inbox(self, user: str, now: str) -> Inbox:
        """Return the state of an inbox, without what has expired in it and cannot be deleted just now."""
        needs = Needs(now, 0)
        needs.users[user] = 0
        async with self._store.transaction(needs) as transaction:
            loaded = transaction.loaded
        inbox = loaded.inboxes.get(user) or Inbox(user_id=user, sequence=0)
        inbox.unread -= sum(record.expires_at <= now and not record.read for record in loaded.records)
        return inbox
