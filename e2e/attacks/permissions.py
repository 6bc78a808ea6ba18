"""Attacks by authenticated clients: on data of other users, and with read-only permission."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

from .attack import attack
from .raw_connection import BINARY, CLOSE, IGNORED, Raw, Target, frame, text
from .token_issuer import signed
from .update_encoding import awareness_frame, sized, sync_frame, written

MALLORY, VICTIM, SENDER = "mallory", "victim", "sender"
ROOMS = count()
OWN = 7
"""The client id of a writer's awareness state."""
GONE = 6
"""The client id of a writer who has left."""


async def _authenticated(raw: Raw, user: str) -> None:
    await raw.send(text({"type": "authenticate", "userId": user, "token": signed(user)}))
    await raw.message("notifications")


@attack("not-found", "unauthorized", servers=["notification"], setups=["jwt"])
async def inboxes_of_other_users(target: Target) -> Collection[str]:
    """Every message on another user's notifications, before and after the attacker authenticates as itself."""
    async with target.websocket() as victim, target.websocket() as sender, target.websocket() as raw:
        await _authenticated(victim, VICTIM)
        await _authenticated(sender, SENDER)
        await sender.send(text({"type": "mention", "targetUserId": VICTIM, "data": {"secret": "s3cret"}}))
        known = (await victim.message("notification"))["notification"]["id"]
        one = {"notificationId": known}
        attempts = [
            {"type": "get-notifications", "userId": VICTIM},
            *({"type": kind, **one} for kind in ("mark-read", "mark-unread", "delete-notification")),
            {"type": "revoke-notification", **one},
            {"type": "mark-read", "notificationIds": [known]},
            {"type": "authenticate", "userId": VICTIM},
            {"type": "authenticate", "userId": VICTIM, "token": signed(MALLORY)},
            {"type": "authenticate", "userId": VICTIM, "since": 0},
        ]
        answers = set()
        for attempt in attempts[:6]:
            await raw.send(text(attempt))
            answers.add(await raw.answer())
        await _authenticated(raw, MALLORY)
        for attempt in attempts[1:]:
            await raw.send(text(attempt))
            answers.add(await raw.answer())
        await raw.send(text({"type": "get-notifications", "userId": VICTIM, "limit": 200}))
        page = await raw.message("notifications")
        assert page["notifications"] == [], "another's notifications were shown"
        await raw.send(
            text({"type": "mark-all-read", "userId": VICTIM}) + text({"type": "delete-all", "userId": VICTIM})
        )
        await victim.send(text({"type": "get-notifications", "limit": 200}))
        kept = (await victim.message("notifications"))["notifications"]
        assert [each["read"] for each in kept if each["id"] == known] == [False], "another's notification was changed"
        await victim.send(text({"type": "delete-all"}))
        await victim.message("notifications-cleared")
        return answers


@attack("forbidden", servers=["notification"], setups=["jwt"])
async def system_notifications(target: Target) -> Collection[str]:
    """`system` notifications from a user without the claim `services`, in both forms."""
    async with target.websocket() as raw:
        await _authenticated(raw, MALLORY)
        answers = set()
        for form in ({"type": "system"}, {"type": "send-notification", "notificationType": "system"}):
            await raw.send(text({**form, "targetUserId": VICTIM, "data": {}}))
            answers.add(await raw.answer())
        return answers


@attack("forbidden", servers=["signaling"], setups=["jwt"])
async def read_only_peers(target: Target) -> Collection[str]:
    """A read-only token on the signaling server, where peers could not enforce it."""
    token = signed(MALLORY, access="read")
    answers = set()
    async with target.websocket(b"/?token=" + token.encode()) as raw:
        for attempt in (
            {"type": "join", "room": "guarded", "peerId": "a", "userId": MALLORY, "token": token},
            {"type": "subscribe", "topics": ["guarded"]},
            {"type": "publish", "topic": "guarded"},
        ):
            await raw.send(text(attempt))
            answers.add(await raw.answer())
    return answers


@attack("denied", IGNORED, servers=["sync"], setups=["jwt"])
async def writes_by_read_only_users(target: Target) -> Collection[str]:
    """Step 2, updates, and awareness of other clients, from a read-only client: no client sees any of it."""
    reading, writing = signed(MALLORY, access="read"), signed(VICTIM)
    path = b"/read-only-%d?token=" % next(ROOMS)
    async with target.websocket(path + writing.encode()) as writer, target.websocket(path + reading.encode()) as raw:
        await writer.send(sync_frame(2, written(OWN, "as it was")) + awareness_frame((OWN, 1, b'{"user":"victim"}')))
        await writer.send(sync_frame(0, b"\x00"))
        await writer.until(b"\x00\x01")
        await writer.verdict()
        async with target.websocket(path + writing.encode()) as gone:
            await gone.send(awareness_frame((GONE, 1, b"{}")))
            await gone.verdict()
        attempts = [
            awareness_frame((OWN + 1, 2**53 - 1, b"null")),
            awareness_frame((GONE, 9, b'{"user":"mallory"}')),
            sync_frame(1, written(8, "by step 2", "other")),
            sync_frame(2, written(8, "by an update", "other")),
            sync_frame(2, b"\x00\x01\x07\x01\x00\x01"),  # deletes what the writer wrote
            sync_frame(1, b"\x00\x01\x07\x01\x00\x01"),
            awareness_frame((OWN, 9, b'{"user":"mallory"}')),
            awareness_frame((OWN, 9, b"null")),
            frame(b"\x65" + sized(b"no token"), BINARY),
            frame(b"\x65" + sized(signed(VICTIM, rooms=["another"]).encode()), BINARY),
        ]
        answers = set()
        for attempt in attempts:
            await raw.send(attempt)
            answers.add("denied" if await raw.meets(b"\x02\x00") else IGNORED)
        await writer.send(sync_frame(0, b"\x00") + frame(b"\x03", BINARY))
        document, present = b"", b""
        while not document or not present:
            came = await writer.next()
            assert came is not None
            assert came.opcode != CLOSE
            if came.payload[:2] == b"\x00\x01":
                document = came.payload
            elif came.payload[:1] == b"\x01":
                present = came.payload
        assert b"as it was" in document, "what was written is gone"
        assert b"by step 2" not in document, "a reader has written"
        assert b"by an update" not in document, "a reader has written"
        assert b'"victim"' in present, "a reader has moved another's cursor"
        assert b"mallory" not in present, "a reader has moved another's cursor"
        return answers
