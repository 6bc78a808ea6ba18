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
"""Bytes of answers after which the event loop runs."""


class Reader:
    """Answers requests that only read.

    Args:
        store: stores the inboxes.
        devices: sends the answers, and gets a new device after `authenticate`.
        instances: other instances with the same store, or None.
    """

    def __init__(self, store: Store, devices: Devices, instances: Instances | None) -> None:
        self._store = store
        self._instances = instances
        self._devices = devices
        self._unwritten = 0  # bytes of answers since the event loop last ran

    async def answer(self, request: Request, user: str, batch: Batch | None, now: str) -> None:
        """Answer one request.

        Args:
            request: the request.
            user: the user of the request.
            batch: the batch that was stored directly before; None if it was not stored.
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
            self._devices.enter(device, user)  # so that its further requests are handled even after an error
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
            # Replayed events are sent like the original ones, without a `requestId`.
            request_id = UNSET if isinstance(answer, Event) else request.incoming.request_id
            self._unwritten += self._devices.answer(device, answer, request_id)
        # This detects a client that requests much and does not read, before its next large answer. Running the event
        # loop after every answer would let requests arrive faster than they are handled.
        if self._unwritten >= ANSWERS_OF_A_TURN:
            self._unwritten = 0
            await asyncio.sleep(0)

    async def _inbox(self, user: str, now: str) -> Inbox:
        """Return the state of an inbox without expired notifications that cannot be deleted now."""
        async with self._store.transaction(_needs(user, now)) as transaction:
            return _state(transaction.loaded, user, now)

    async def _read_shared(
        self, request: Request, inbox: Inbox | None, user: str, now: str, *, behind: bool
    ) -> tuple[Inbox, list[Answer]]:
        """Return the state of an inbox that other instances may change, and the answers to a request.

        First the state of the batch is used without a lock. If it is outdated, the inbox is locked, and the events up
        to its present state are sent to the user's devices. Therefore a busy inbox delays a request only by a lock.

        Args:
            request: the request.
            inbox: the state after the batch; None if it was not stored.
            user: the owner of the inbox.
            now: the time.
            behind: whether the device is reading the list, page by page.
        """
        assert self._instances is not None
        # Another request of the batch may have moved the devices to a later state.
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
    """Return the state of a loaded inbox, without its expired notifications."""
    inbox = loaded.inboxes.get(user) or Inbox(user_id=user, sequence=0)
    inbox.unread -= sum(record.expires_at <= now and not record.read for record in loaded.records)
    return inbox
