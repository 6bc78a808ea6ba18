"""The page ``/session/<room>/info``: a preview of a session, without joining it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from time import time
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import UNSET

from .edge.admission.address_limits import rate_limit_key
from .edge.auth.authenticator import Authenticator
from .edge.auth.identity import AuthError
from .edge.errors import BadMessage
from .edge.limits import Quota
from .rooms.model import Client, Room

LOOKS_PER_MINUTE = 60
"""Limit of the session previews for one address in a minute."""

Page = tuple[HTTPStatus, dict[str, Any]]
"""A status and the JSON body."""


class SessionInfoPage:
    """Answers requests for the preview of a session.

    Args:
        find: returns the room with a name; None if no peer is in it.
        capacity: returns the number of peers that a room may have; 0 means any number.
        auth: checks the token of a request, if `AUTH` is set.
        rate_limited: counts the requests over the limit.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[Room | None]],
        capacity: Callable[[Room], int],
        auth: Authenticator,
        rate_limited: Counter[str],
    ) -> None:
        self._find = find
        self._capacity = capacity
        self._auth = auth
        self._rate_limited = rate_limited
        self._looks = Quota(LOOKS_PER_MINUTE, 60)

    async def answer(self, path: str, address: str, token: str | None) -> Page | None:
        """Return the response to a GET; None if `path` is not the path of a session.

        Args:
            path: the path of the request, not decoded.
            address: the client's address.
            token: the token of the request; None if it has none.
        """
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "session" or parts[3] != "info":
            return None
        if not self._looks.allow(rate_limit_key(address), time()):
            self._rate_limited["session-info"] += 1
            return HTTPStatus.TOO_MANY_REQUESTS, {"error": "Too many requests; try again in a minute."}
        name = unquote(parts[2])
        if self._auth.required and (refused := await self._refusal(name, address, token)):
            return refused
        try:
            room = await self._find(name)
        except BadMessage as bad:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": bad.error}
        if room is None:
            return HTTPStatus.NOT_FOUND, {"error": "Nobody is in this room."}
        return HTTPStatus.OK, self._preview(room)

    async def _refusal(self, room: str, address: str, token: str | None) -> Page | None:
        if token is None:
            return HTTPStatus.UNAUTHORIZED, {
                "error": "A token is required: as a bearer token or as `token` in the query."
            }
        try:
            identity = await self._auth.identify(token, address)
        except AuthError as error:
            down = error.code == "auth-unavailable"
            return HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.UNAUTHORIZED, {"error": str(error)}
        return None if identity.allows(room) else (HTTPStatus.FORBIDDEN, {"error": "Your token is not for this room."})

    def _preview(self, room: Room) -> dict[str, Any]:
        participants = [_participant(peer) for peer in room.peers.values()]
        session, features = room.session, room.session.features
        return {
            "roomId": room.name,
            "title": session.title,
            "projectName": session.title,
            "description": session.description,
            "host": participants[0],
            "participants": participants,
            "participantCount": len(participants),
            "maxParticipants": self._capacity(room),
            "features": features,
            "audioEnabled": features.audio_enabled,
            "videoEnabled": features.video_enabled,
            "screenShareEnabled": features.screen_share_enabled,
            "duration": int(time() - room.created),
            "createdAt": datetime.fromtimestamp(room.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        }


def _participant(peer: Client) -> dict[str, Any]:
    try:
        metadata = msgspec.json.decode(peer.info.metadata)
    except (msgspec.DecodeError, RecursionError):  # valid JSON, but nested too deeply or with too large a number
        metadata = UNSET
    known = metadata if isinstance(metadata, dict) else {}
    user_id = peer.info.user_id
    return {"id": user_id, "userId": user_id, "name": known.get("name"), "avatar": known.get("avatar")}
