"""Inboxes do what plain lists would, whatever is done to them in whatever order."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw
from opennoodl_notification.edge.json_messages import BadMessage
from opennoodl_notification.inbox import Inboxes, Outcome
from opennoodl_notification.messages import (
    AllRead,
    Cleared,
    Deleted,
    GetNotifications,
    Notifications,
    Received,
    SendNotification,
    Sent,
    Updated,
)
from opennoodl_notification.notification import Notification, Record, timestamp

from .harness import NOW

USERS = ("a", "b", "c")
ROOM = 4
"""The most notifications in one inbox."""
TTL = 86_400_000
"""Milliseconds; one day."""
users = st.sampled_from(USERS)
datas = st.sampled_from([b"{}", b"[1.0]"])
keys = st.none() | st.sampled_from(["k", "l"])

Item = dict[str, Any]
State = dict[str, list[Item]]


def item(notification: Notification) -> Item:
    """Return a notification as the model keeps it, without its expiry and key."""
    return {
        "id": notification.id,
        "from": notification.from_user_id,
        "data": bytes(notification.data),
        "read": notification.read_at if notification.read else None,
        "created": notification.created_at,
    }


class InboxMachine(RuleBasedStateMachine):
    """Does the same to `Inboxes` and to a list for each user; the oldest comes first in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inboxes = Inboxes([], 1, ROOM, 0)
        self.now = NOW * 1000
        self.model: State = {user: [] for user in USERS}
        self.expiry: dict[str, int] = {}
        self.keys: dict[str, tuple[str, str, str, bytes]] = {}
        self.created: dict[str, int] = {}
        self.stored: dict[str, Record] = {}
        self.committed: State = deepcopy(self.model)

    # The model's side

    def clean(self, user: str) -> None:
        """Remove what has expired."""
        self.model[user] = [one for one in self.model[user] if self.expiry[one["id"]] > self.now]

    def clean_all(self) -> None:
        """Remove what has expired in all inboxes, on both sides."""
        for user in USERS:
            self.clean(user)
        self.inboxes.expire(self.now / 1000)

    def with_key(self, sender: str, key: str) -> Item | None:
        """Return what was sent under a key and is still there."""
        for items in self.model.values():
            for one in items:
                if self.keys.get(one["id"], ())[:2] == (sender, key):
                    return one
        return None

    def pick(self, user: str, position: int) -> str:
        """Return the id of some notification, of whichever user."""
        known = [one["id"] for items in self.model.values() for one in items] or ["nothing"]
        own = [one["id"] for one in self.model[user]]
        return str((own or known)[position % len(own or known)] if position % 4 else known[position % len(known)])

    # What happens

    @rule(milliseconds=st.sampled_from([0, 1, 1000, 3_600_000, TTL // 2, TTL - 1, TTL, -1, -5000]))
    def pass_time(self, milliseconds: int) -> None:
        """Let the clock go on, or back."""
        self.now += milliseconds

    @rule(sender=users, user=users, data=datas, key=keys)
    def send(self, sender: str, user: str, data: bytes, key: str | None) -> None:
        """Send, under a key or not."""
        if key is not None:
            self.clean_all()
        known = None if key is None else self.with_key(sender, key)
        self.clean(user)
        message = SendNotification(user, "invite", Raw(data), key)
        if known is not None and (user, data) != self.keys[known["id"]][2:]:
            self.refused("idempotency-conflict", self.inboxes.send, sender, message)
            return
        outcome = self.inboxes.send(sender, message, self.now / 1000)
        assert isinstance(outcome.reply, Sent)
        if known is not None:
            assert outcome == Outcome(Sent(known["id"]))
            return
        items, id_ = self.model[user], outcome.reply.notification_id
        created = max(self.now, self.created[items[-1]["id"]] + 1 if items else 0)
        gone = []
        if len(items) == ROOM:
            out = next((one for one in items if one["read"]), items[0])
            items.remove(out)
            gone.append((user, Deleted(out["id"])))
        new = {"id": id_, "from": sender, "data": data, "read": None, "created": timestamp(created)}
        items.append(new)
        self.created[id_], self.expiry[id_] = created, created + TTL
        if key is not None:
            self.keys[id_] = (sender, key, user, data)
        assert list(outcome.events[:-1]) == gone
        receiver, event = outcome.events[-1]
        assert isinstance(event, Received)
        assert (receiver, item(event.notification)) == (user, new)
        assert event.notification.expires_at == timestamp(created + TTL)

    @rule(user=users, limit=st.integers(1, 5), back=st.none() | st.integers(0, 4), unread=st.booleans())
    def get(self, user: str, limit: int, back: int | None, unread: bool) -> None:
        """Read a page."""
        self.clean(user)
        items = self.model[user]
        before = items[-1 - back % len(items)]["created"] if items and back is not None else None
        page = self.inboxes.get(user, GetNotifications(limit, before, unread), self.now / 1000).reply
        assert isinstance(page, Notifications)
        matching = [
            one
            for one in reversed(items)
            if (before is None or one["created"] < before) and not (unread and one["read"])
        ]
        assert [item(one) for one in page.notifications] == matching[:limit]
        assert page.has_more == (len(matching) > limit)
        assert page.unread_count == sum(not one["read"] for one in items)

    @rule(user=users, position=st.integers(0, 20))
    def mark_read(self, user: str, position: int) -> None:
        """Mark one as read, one's own or not."""
        id_ = self.pick(user, position)
        self.clean(user)
        one = next((one for one in self.model[user] if one["id"] == id_), None)
        if one is None:
            self.refused("not-found", self.inboxes.mark_read, user, id_)
            return
        one["read"] = one["read"] or timestamp(self.now)
        ((receiver, event),) = self.inboxes.mark_read(user, id_, self.now / 1000).events
        assert isinstance(event, Updated)
        assert (receiver, item(event.notification)) == (user, one)

    @rule(user=users)
    def mark_all_read(self, user: str) -> None:
        """Mark all as read."""
        self.clean(user)
        for one in self.model[user]:
            one["read"] = one["read"] or timestamp(self.now)
        assert self.inboxes.mark_all_read(user, self.now / 1000).events == ((user, AllRead(timestamp(self.now))),)

    @rule(user=users, position=st.integers(0, 20))
    def delete(self, user: str, position: int) -> None:
        """Delete one, one's own or not."""
        id_ = self.pick(user, position)
        self.clean(user)
        left = [one for one in self.model[user] if one["id"] != id_]
        if left == self.model[user]:
            self.refused("not-found", self.inboxes.delete, user, id_)
            return
        self.model[user] = left
        assert self.inboxes.delete(user, id_, self.now / 1000).events == ((user, Deleted(id_)),)

    @rule(user=users)
    def delete_all(self, user: str) -> None:
        """Delete all."""
        self.model[user] = []
        assert self.inboxes.delete_all(user).events == ((user, Cleared()),)

    @rule()
    def expire(self) -> None:
        """Clean up."""
        self.clean_all()

    @rule()
    def commit(self) -> None:
        """Store the changes."""
        for id_, record in self.inboxes.changes().items():
            if record is None:
                self.stored.pop(id_, None)
            else:
                self.stored[id_] = record
        self.inboxes.commit()
        self.committed = deepcopy(self.model)
        assert {id_: item(record) for id_, record in self.stored.items()} == {
            one["id"]: one for items in self.model.values() for one in items
        }

    @rule()
    def rollback(self) -> None:
        """Take the changes back."""
        self.inboxes.rollback()
        self.model = deepcopy(self.committed)

    @precondition(lambda self: not self.inboxes.changes())
    @rule()
    def restart(self) -> None:
        """Go on with what is stored."""
        self.inboxes = Inboxes(self.stored.values(), 1, ROOM, 0)

    # What always holds

    @invariant()
    def counted(self) -> None:
        """The number of notifications is that of the model."""
        assert len(self.inboxes) == sum(map(len, self.model.values()))

    @invariant()
    def changes_lead_from_what_is_stored_to_what_is(self) -> None:
        """What is stored, with the changes, is what there is."""
        then: dict[str, Record | None] = {**self.stored, **self.inboxes.changes()}
        assert {id_: item(record) for id_, record in then.items() if record is not None} == {
            one["id"]: one for items in self.model.values() for one in items
        }

    def refused(self, code: str, call: Any, *args: Any) -> None:
        """See that a call is refused, and nothing changed by it."""
        with pytest.raises(BadMessage) as info:
            call(*args, self.now / 1000)
        assert info.value.code == code


InboxMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestInboxes = InboxMachine.TestCase
