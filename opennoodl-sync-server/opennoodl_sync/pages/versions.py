"""The pages about versions: they are listed, shown, and restored beside clients at work."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
import structlog

from ..edge.http.query import value
from ..storage.interface import History, PersistentStore, Version
from ..versions import times
from ..versions.content import unpack_at_most
from ..versions.making import Limits, found, make_version, restoring_update
from ..versions.schedule import oversized
from ..workers import interpreter
from .page import Page, PageError

FORMS = ("update", "json")
Change = Callable[[str, str, bytes], Awaitable[None]]
"""Changes the document of a room, for the sake of an address, and returns when the update is stored."""

log = structlog.get_logger()


class Bounds(NamedTuple):
    """Bytes of memory and of the store, each 0 for any number.

    Attributes:
        document: the largest document that is restored.
        versions: all versions of one document.
        answer: the largest document that is sent.
    """

    document: int
    versions: int
    answer: int


class VersionPages:
    """Answers requests about versions.

    Args:
        store: where documents and versions are.
        change: changes a document.
        bounds: of memory and of the store.
        making: see `VersionScheduler`.
    """

    def __init__(self, store: PersistentStore, change: Change, bounds: Bounds, making: asyncio.Lock) -> None:
        self._store = store
        self._change = change
        self._bounds = bounds
        self._making = making
        self._turn = asyncio.Lock()  # one version is read or restored at a time: each takes memory and a process

    async def list(self, room: str) -> Page:
        """List the versions of a document."""
        versions = (await self._store.history(room)).versions
        return HTTPStatus.OK, {"versions": [_described(version) for version in versions]}

    async def show(self, room: str, when: str, target: str) -> Page:
        """Show a document as it was, as an update or as JSON; the query of the request's target says which.

        Raises:
            PageError: there is no such version, or it is too large.
            TaskError: pycrdt cannot read it.
            StoreError: it cannot be read.
        """
        form = value(target, "format") or FORMS[0]
        if form not in FORMS:
            raise PageError(HTTPStatus.BAD_REQUEST, f"format is {form!r}; accepted are {' and '.join(FORMS)}.")
        async with self._turn:
            version, content = await self._version(await self._store.history(room), room, when)
            update = await asyncio.to_thread(unpack_at_most, content, self._bounds.answer)
            if update is None:
                text = f"This version has more than {self._bounds.answer} bytes; use the command `version`."
                raise PageError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
            shown: dict[str, Any] = {"version": _described(version)}
            if form == "json":
                shown["content"] = msgspec.Raw(await interpreter.to_json(update))
            else:
                shown["update"] = b64encode(update).decode()
        return HTTPStatus.OK, shown

    async def restore(self, room: str, when: str, address: str) -> Page:
        """Restore a version.

        Raises:
            PageError: there is no such version.
            ElsewhereError: another instance has the document.
            TooLargeError, TaskError: it cannot be restored.
            StoreError, and what `DirectChanges.change` raises: the document was not changed.
        """
        async with self._turn:
            await self._store.find(room)
            async with self._making:
                history = await self._store.history(room)
                version, content = await self._version(history, room, when)
                made, present = await make_version(self._store, room, history, Limits(self._bounds.document))
                update = await restoring_update(content, present)
                dropped = oversized([*history.versions, made], self._bounds.versions)
                await self._store.change_versions(room, [(made, present)], dropped)
            await self._change(room, address, update)
        log.info("a version was restored")
        return HTTPStatus.OK, {"restored": _described(version), "before": _described(made)}

    async def _version(self, history: History, room: str, when: str) -> tuple[Version, bytes]:
        try:
            version = found(history.versions, times.read(unquote(when)))
        except ValueError as error:
            raise PageError(HTTPStatus.BAD_REQUEST, f"{error}.") from None
        except LookupError as error:
            raise PageError(HTTPStatus.NOT_FOUND, f"{error}.") from None
        content = await self._store.read_version(room, version.time)
        if content is None:
            raise PageError(HTTPStatus.NOT_FOUND, "This version was dropped meanwhile; try again.")
        return version, content


def _described(version: Version) -> dict[str, Any]:
    return {"time": times.shown(version.time), "bytes": version.size}
