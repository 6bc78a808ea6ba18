"""The routes of the pages: who may ask, how many requests wait, and which instance answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from ..cluster.signature import HEADER
from ..edge.auth.credential import credential
from ..edge.auth.identity import AuthError, Identity
from ..rooms.registry import LoadError
from ..rooms.room import FullError, NoMemoryError
from ..storage.interface import ElsewhereError, StoreError
from ..versions.making import TooLargeError
from ..workers.task import TaskError
from ..y_protocol import is_name
from ..yjs.lib0 import MalformedError
from .page import Page, PageError

if TYPE_CHECKING:
    from ..cluster.peers import Peers
    from ..edge.auth.authenticator import Authenticator
    from ..edge.http.request import HttpRequest
    from .rooms import RoomPages
    from .versions import VersionPages

STATS = "/rooms"
PATH = re.compile(
    r"/rooms/(?P<room>.{1,256})/(?:(?P<act>kick|close|open)|versions(?:/(?P<when>[^/]+)(?P<restore>/restore)?)?)"
)
PATIENCE = 5.0
"""Seconds after which a request is answered whose work has not ended; a connection has ten for its requests."""
MAX_REQUESTS = 10
"""Requests at once; they wait for each other where work takes a process."""


class Route(NamedTuple):
    """The page that a path names.

    Attributes:
        room: the room that it is about; None for all rooms that the token allows.
        changes: whether it changes something, so that a POST asks for it.
        work: does it, for a user.
        progress: what a client is told if it goes on after the answer.
    """

    room: str | None
    changes: bool
    work: Callable[[Identity], Awaitable[Page]]
    progress: str = "working"


class Pages:
    """Answers requests about rooms.

    Args:
        auth: proves who asks.
        peers: the other instances.
        versions: the pages about versions.
        rooms: the pages about rooms.
    """

    def __init__(self, auth: Authenticator, peers: Peers, versions: VersionPages, rooms: RoomPages) -> None:
        self._auth = auth
        self._peers = peers
        self._versions = versions
        self._rooms = rooms
        self._tasks: set[asyncio.Task[Page]] = set()

    async def close(self) -> None:
        """Give up what is being done."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def accepts_post(self, path: str) -> bool:
        """Return whether a path may be asked for something that changes a room."""
        return PATH.fullmatch(path) is not None

    async def answer(self, request: HttpRequest) -> Page | None:
        """Return the answer to a request, or None if its path is another one."""
        method, token = request.head.method, credential(request.head)
        route = self._route(request)
        if route is None:
            return None
        try:
            identity = await self._identity(route, request.address, token)
        except PageError as refusal:
            return refusal.status, {"error": str(refusal)}
        if route.changes != (method == "POST"):
            expected = "a POST" if route.changes else "a GET"
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"Send {expected} to this path."}
        if len(self._tasks) >= MAX_REQUESTS:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "Too many requests wait; try again later."}
        task = asyncio.create_task(self._done(route, identity, request, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=PATIENCE)
        if task.done():
            return task.result()
        if route.changes:
            return HTTPStatus.ACCEPTED, {"status": route.progress}
        task.cancel()
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "This takes too long; try again later."}

    def _route(self, request: HttpRequest) -> Route | None:
        path, target, address = request.path, request.head.path, request.address
        if path == STATS:
            return Route(None, False, self._rooms.stats)
        match = PATH.fullmatch(path)
        if match is None or not is_name(match["room"]):
            return None
        room, when = match["room"], match["when"]
        if match["act"] == "kick":
            return Route(room, True, lambda _: self._rooms.kick(room))
        if match["act"] == "close":
            return Route(room, True, lambda _: self._rooms.close(room, address))
        if match["act"] == "open":
            return Route(room, True, lambda _: self._rooms.open(room, address))
        if when is None:
            return Route(room, False, lambda _: self._versions.list(room))
        if match["restore"] is None:
            return Route(room, False, lambda _: self._versions.show(room, when, target))
        return Route(room, True, lambda _: self._versions.restore(room, when, address), "restoring")

    async def _identity(self, route: Route, address: str, token: str | None) -> Identity:
        """Return the user whose token this is.

        Raises:
            PageError: the user may not ask for this.
        """
        if token is None:
            raise PageError(HTTPStatus.UNAUTHORIZED, "A token is required, as a bearer token.")
        try:
            identity = await self._auth.identify(token, address)
        except AuthError as error:
            refused = error.code == "unauthorized"
            status = HTTPStatus.UNAUTHORIZED if refused else HTTPStatus.SERVICE_UNAVAILABLE
            raise PageError(status, str(error)) from None
        if not identity.services or not (route.room is None or identity.allows(route.room)):
            raise PageError(HTTPStatus.FORBIDDEN, "A token with `services` for this room is required.")
        if route.changes and identity.access != "write":
            raise PageError(HTTPStatus.FORBIDDEN, "This token allows only reading.")
        return identity

    async def _done(self, route: Route, identity: Identity, request: HttpRequest, token: str | None) -> Page:
        """Return what the work for a route answers, or what it failed with."""
        try:
            return await route.work(identity)
        except PageError as error:
            return error.status, {"error": str(error)}
        except ElsewhereError as owner:
            if HEADER in request.head.headers:
                return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "This document moves to another server; try again."}
            return await self._peers.ask(owner, request.head.method, request.head.path, request.address, token)
        except (TaskError, TooLargeError) as error:
            return HTTPStatus.CONFLICT, {"error": f"This version cannot be used: {error}."}
        except (FullError, MalformedError) as error:
            return HTTPStatus.CONFLICT, {"error": str(error)}
        except (StoreError, LoadError, NoMemoryError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"This is not possible now: {error}"}
