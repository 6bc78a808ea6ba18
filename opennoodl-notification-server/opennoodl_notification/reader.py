"""The reader: answers requests that only read, after the changes of their batch."""

import asyncio
from contextlib import suppress

from msgspec import UNSET

from .devices import Devices
from .inbox.batch import Batch
from .inbox.reading import OutdatedError, read
from .inbox.store import Loaded, Needs, Store
from .instances import Instances
from .messages import Answer, Authenticate, Event
from .queue import Request
from .records import Inbox

ANSWERS_OF_A_TURN = 65_536
"""Bytes of answers after which the event loop has a turn."""


class Reader:
    """Answers requests that read.

    Args:
        store: where inboxes are kept.
        devices: who is answered, and becomes a device by `authenticate`.
        instances: others that use the same store, if there may be any.
    """

    def __init__(self, store: Store, devices: Devices, instances: Instances | None) -> None:
        self._store = store
        self._instances = instances
        self._devices = devices
        self._unwritten = 0  # bytes of answers since the event loop had a turn

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
        elsewhere = 0 if self._instances is None else self._instances.devices_elsewhere(user)
        self._devices.check_limit(device, user, elsewhere)
        if not device.is_open:
            self._devices.enter(device, user)  # what it has asked for after this is still done
            return
        behind = self._devices.is_behind(device)
        inbox = None if batch is None else batch.inbox(user)
        if self._instances is not None:
            inbox, answers = await self._read_shared(request, inbox, user, now, behind=behind)
        else:
            inbox = inbox or await self._inbox(user, now)
            answers = await read(self._store, inbox, request.incoming, now, behind=behind)
        if isinstance(request.incoming, Authenticate):
            self._devices.enter(device, user)
            if device.is_open:
                self._devices.add(device, inbox, behind=request.incoming.since is not None)
        for answer in answers:
            # What the device has missed is told as it was at first.
            request_id = UNSET if isinstance(answer, Event) else request.incoming.request_id
            self._unwritten += self._devices.answer(device, answer, request_id)
        # A client that asks for much and does not read is noticed before the next large answer. A turn of the event
        # loop for every answer would let many more requests come than are handled.
        if self._unwritten >= ANSWERS_OF_A_TURN:
            self._unwritten = 0
            await asyncio.sleep(0)

    async def _inbox(self, user: str, now: str) -> Inbox:
        """Return the state of an inbox, without what has expired in it and cannot be deleted just now."""
        async with self._store.transaction(_needs(user, now)) as transaction:
            return _state(transaction.loaded, user, now)

    async def _read_shared(
        self, request: Request, inbox: Inbox | None, user: str, now: str, *, behind: bool
    ) -> tuple[Inbox, list[Answer]]:
        """Return the state of an inbox that other instances may change, and the answers to a request.

        The state that the batch has left is read without a lock. If it is not the newest one, the inbox is locked, and
        the user's devices are caught up to the state that it has then. So a busy inbox delays a request only by a lock.

        Args:
            request: what is asked.
            inbox: the state that the batch has left, if it was stored.
            user: whose inbox it is.
            now: the time.
            behind: whether the device is reading the list, page by page.
        """
        assert self._instances is not None
        # Another request of the batch may have caught the devices up to a later state.
        if inbox is not None and self._devices.sequences.get(user, inbox.sequence) == inbox.sequence:
            with suppress(OutdatedError):
                return inbox, await read(self._store, inbox, request.incoming, now, behind=behind)
        async with self._store.transaction(_needs(user, now)) as transaction:
            inbox = _state(transaction.loaded, user, now)
            await self._instances.follower.catch_up([inbox], now)
            return inbox, await read(self._store, inbox, request.incoming, now, behind=behind)


def _needs(user: str, now: str) -> Needs:
    needs = Needs(now, 0)
    needs.users[user] = 0
    return needs


def _state(loaded: Loaded, user: str, now: str) -> Inbox:
    """Return the state of an inbox as it was loaded, without what has expired in it."""
    inbox = loaded.inboxes.get(user) or Inbox(user_id=user, sequence=0)
    inbox.unread -= sum(record.expires_at <= now and not record.read for record in loaded.records)
    return inbox
