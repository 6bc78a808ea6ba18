"""Portions: what is given to yrs at a time. It has Python's lock for as long as it needs, and may need long for little.

Where many have written at the same place, each item that comes is compared with all that are there: with half a
million of them, each takes as long as a thousand others.
"""

from collections.abc import Mapping
from math import inf
from time import perf_counter, thread_time
from typing import Any

from pycrdt import Doc

from .protocol import MalformedError
from .split import pieces
from .yjs import DamagedError, apply

FEW = 4
"""Structs and deletions that are given at once while others may be waiting."""
MANY = 500
"""Those that are given at once at most."""
AT_ONCE = 0.01
"""Seconds that a portion should not take longer, nor an update for which others may be waiting."""
LONGEST = 20.0
"""Seconds that an update may take at all."""
SOON = 10.0
"""Seconds within which a few structs take longer than `AT_ONCE` twice, if a document is slow."""
SLOW_UPDATES = 10_000
"""Updates for which it is taken to be slow then."""


class TakesLongError(Exception):
    """An update was not integrated whole, because that may take long: it has to be integrated again, with patience."""


class TooSlowError(Exception):
    """An update takes too long; a part of it is in the document."""


class Portions:
    """Gives updates to one document, in portions that it takes in time.

    Attributes:
        slow: for how many updates more it is taken to be slow.
    """

    def __init__(self) -> None:
        self.slow = 0
        self._size = FEW
        self._late = -inf  # when little took long

    def give(self, doc: Doc[Any], update: bytes, known: Mapping[int, int], parts: int, *, patient: bool) -> None:
        """Integrate an update, all of which can be.

        Args:
            doc: where.
            update: what.
            known: the document's state vector.
            parts: structs and deletions of the update, as far as is known.
            patient: whether it may take long.

        Raises:
            MalformedError: yrs says that it is none; the document is as before.
            DamagedError: it failed on the way.
            TakesLongError: it takes long, and a part of it may be in the document.
            TooSlowError: it takes too long.
        """
        if parts <= FEW and not self.slow:
            began = perf_counter()
            apply(doc, update)
            if perf_counter() - began > AT_ONCE:
                self._adapt(parts, began)
            return
        self.slow = max(self.slow - 1, 0)
        ends = thread_time() + (LONGEST if patient else AT_ONCE)
        most = MANY if patient else FEW
        for number, piece in enumerate(pieces(update, known, lambda: min(self._size, most))):
            if number and thread_time() > ends:
                raise TooSlowError if patient else TakesLongError
            began = perf_counter()
            try:
                apply(doc, piece)
            except MalformedError as error:
                if not number:
                    raise
                raise DamagedError(str(error)) from None
            self._adapt(min(self._size, most), began)

    def _adapt(self, parts: int, began: float) -> None:
        """Give more or less at once, after what so many parts have taken."""
        took = perf_counter() - began
        if took > AT_ONCE:
            if parts <= FEW:
                if began < self._late + SOON:  # once, it may have been the machine
                    self.slow = SLOW_UPDATES
                self._late = began
            self._size = max(parts // 4, 1)
        elif took < AT_ONCE / 4 and self._size < MANY:
            self._size = min(self._size * 2, MANY)
