"""Placeholder until the worker process is there."""

from typing import NamedTuple

from .yjs.document import Document
from .yjs.lib0 import finish
from .yjs.segment import Segment


class CompactionError(Exception):
    """A document could not be compacted."""


class Compacted(NamedTuple):
    update: bytes
    segment: Segment


def compact(updates: list[bytes]) -> Compacted:
    document = Document()
    finish(document.load(updates))
    update = finish(document.write())
    again = Document()
    finish(again.load([update]))
    (segment,) = finish(again.freeze())
    return Compacted(update, segment)


class Compactor:
    async def compact(self, updates: list[bytes]) -> Compacted:
        return compact(updates)

    async def close(self) -> None:
        pass
