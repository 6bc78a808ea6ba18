"""The pages about versions: a token with `services` lists versions and restores one, beside clients at work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog

from ..edge.auth.authenticator import Authenticator
from ..edge.auth.identity import AuthError
from ..rooms.registry import LoadError
from ..rooms.room import FullError, NoMemoryError
from ..storage.interface import ElsewhereError, PersistentStore, StoreError, Version
from ..versions import times
from ..versions.making import Limits, found, make_version, restoring_update
from ..workers.task import TaskError
from ..yjs.lib0 import MalformedError

PATH = re.compile(r"/rooms/(?P<room>.{1,256})/versions(?:/(?P<when>[^/]+)/restore)?")
PATIENCE = 5.0
"""Seconds after which a restoration is answered that has not ended; a connection has ten for its requests."""
MAX_WAITING = 10
"""Restorations at once, of which one is under way."""

Page = tuple[HTTPStatus, dict[str, Any]]
Change = Callable[[str, str, bytes], Awaitable[None]]
"""Changes the document of a room, for the sake of an address, and returns when the update is stored."""

log = structlog.get_logger()


class VersionPages:
    """Answers requests about versions.

    Args:
        auth: proves who asks.
        store: where documents and versions are.
        change: changes a document.
    """

    def __init__(self, auth: Authenticator, store: PersistentStore, change: Change) -> None:
        self._auth = auth
        self._store = store
        self._change = change
        self._turn = asyncio.Lock()  # one version is restored at a time
        self._restoring: set[asyncio.Task[Page]] = set()

    async def close(self) -> None:
        """Give up what is being restored."""
        for task in self._restoring:
            task.cancel()
        if self._restoring:
            await asyncio.wait(self._restoring)

    async def answer(self, method: str, path: str, address: str, token: str | None) -> Page | None:
        """Return the answer to a request, or None if its path is another one.

        Args:
            method: of the request.
            path: of the request, not decoded.
            address: where it comes from.
            token: that it brings, if it brings one.
        """
        match = PATH.fullmatch(path)
        if match is None:
            return None
        room, when = match["room"], match["when"]
        if (refusal := await self._refusal(room, address, token)) is not None:
            return refusal
        if when is None:
            return await self._answered(self._list(room))
        if method != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "Send a POST to restore a version."}
        if len(self._restoring) >= MAX_WAITING:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "Too many restorations wait; try again later."}
        task = asyncio.create_task(self._answered(self._restore(room, when, address)))
        self._restoring.add(task)
        task.add_done_callback(self._restoring.discard)
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done():
            return HTTPStatus.ACCEPTED, {"status": "restoring"}
        return task.result()

    async def _refusal(self, room: str, address: str, token: str | None) -> Page | None:
        if token is None:
            return HTTPStatus.UNAUTHORIZED, {"error": "A token is required, as a bearer token."}
        try:
            identity = await self._auth.identify(token, address)
        except AuthError as error:
            refused = error.code == "unauthorized"
            return HTTPStatus.UNAUTHORIZED if refused else HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
        if not identity.services or not identity.allows(room):
            return HTTPStatus.FORBIDDEN, {"error": "A token with `services` for this room is required."}
        return None

    async def _answered(self, work: Awaitable[Page]) -> Page:
        """Return what some work answers, or what it failed with."""
        try:
            return await work
        except ElsewhereError:
            return HTTPStatus.CONFLICT, {"error": "Another server has this document open; ask that one."}
        except TaskError as error:
            return HTTPStatus.CONFLICT, {"error": f"This version cannot be restored: {error}."}
        except (FullError, MalformedError) as error:
            return HTTPStatus.CONFLICT, {"error": str(error)}
        except (StoreError, LoadError, NoMemoryError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"This is not possible now: {error}"}

    async def _list(self, room: str) -> Page:
        versions = (await self._store.history(room)).versions
        return HTTPStatus.OK, {"versions": [_described(version) for version in versions]}

    async def _restore(self, room: str, when: str, address: str) -> Page:
        try:
            time = times.read(when)
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, {"error": f"{error}."}
        async with self._turn:
            history = await self._store.history(room)
            version = found(history.versions, time)
            content = None if version is None else await self._store.read_version(room, version.time)
            if version is None or content is None:
                return HTTPStatus.NOT_FOUND, {"error": "There is no version as old as that."}
            made, present = await make_version(self._store, room, history, Limits())
            update = await restoring_update(self._store, room, content)
            await self._store.change_versions(room, [(made, present)], [])
            await self._change(room, address, update)
        log.info("a version was restored")
        return HTTPStatus.OK, {"restored": _described(version), "before": _described(made)}


def _described(version: Version) -> dict[str, Any]:
    return {"time": times.shown(version.time), "bytes": version.size}
