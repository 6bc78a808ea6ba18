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
from ..yjs.lib0 import MalformedError
from .page import Page, PageError

if TYPE_CHECKING:
    from ..cluster.peers import Peers
    from ..edge.auth.authenticator import Authenticator
    from ..edge.http.request import HttpRequest
    from .versions import VersionPages

PATH = re.compile(r"/rooms/(?P<room>.{1,256})/versions(?:/(?P<when>[^/]+)(?P<restore>/restore)?)?")
PATIENCE = 5.0
"""Seconds after which a request is answered whose work has not ended; a connection has ten for its requests."""
MAX_REQUESTS = 10
"""Requests at once; they wait for each other where work takes a process."""


class Route(NamedTuple):
    """What a path asks for.

    Attributes:
        room: the room that it is about.
        changes: whether it changes something, so that a POST asks for it.
        work: does it, for an address.
    """

    room: str
    changes: bool
    work: Callable[[str], Awaitable[Page]]


class Pages:
    """Answers requests about rooms.

    Args:
        auth: proves who asks.
        peers: the other instances.
        versions: the pages about versions.
    """

    def __init__(self, auth: Authenticator, peers: Peers, versions: VersionPages) -> None:
        self._auth = auth
        self._peers = peers
        self._versions = versions
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
        if (refusal := await self._refusal(route, request.address, token)) is not None:
            return refusal
        if route.changes != (method == "POST"):
            expected = "a POST" if route.changes else "a GET"
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"Send {expected} to this path."}
        if len(self._tasks) >= MAX_REQUESTS:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "Too many requests wait; try again later."}
        task = asyncio.create_task(self._done(route, request, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=PATIENCE)
        if task.done():
            return task.result()
        if route.changes:
            return HTTPStatus.ACCEPTED, {"status": "working"}
        task.cancel()
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "This takes too long; try again later."}

    def _route(self, request: HttpRequest) -> Route | None:
        match = PATH.fullmatch(request.path)
        if match is None:
            return None
        room, when, target = match["room"], match["when"], request.head.path
        if when is None:
            return Route(room, False, lambda _: self._versions.list(room))
        if match["restore"] is None:
            return Route(room, False, lambda _: self._versions.show(room, when, target))
        return Route(room, True, lambda address: self._versions.restore(room, when, address))

    async def _refusal(self, route: Route, address: str, token: str | None) -> Page | None:
        if token is None:
            return HTTPStatus.UNAUTHORIZED, {"error": "A token is required, as a bearer token."}
        try:
            identity = await self._auth.identify(token, address)
        except AuthError as error:
            refused = error.code == "unauthorized"
            return HTTPStatus.UNAUTHORIZED if refused else HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
        if not _allows(identity, route):
            text = "A token with `services` for this room is required; to change something, it needs write access."
            return HTTPStatus.FORBIDDEN, {"error": text}
        return None

    async def _done(self, route: Route, request: HttpRequest, token: str | None) -> Page:
        """Return what the work for a route answers, or what it failed with."""
        try:
            return await route.work(request.address)
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


def _allows(identity: Identity, route: Route) -> bool:
    allowed = identity.services and identity.allows(route.room)
    return allowed and (identity.access == "write" or not route.changes)
