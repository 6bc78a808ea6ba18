"""A document: integrates what anybody sends, in any order, and says what changed. Knows no room and no disk.

What comes between two commits is one transaction: yrs then integrates faster, and gives one update of all of it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from pycrdt import Doc, Transaction

from .halves import Halves, cuts, has_large, replace, replace_all
from .portions import Portions, TakesLongError, TooSlowError
from .protocol import MalformedError
from .split import split
from .update import MAX_PARTS, Id, read
from .waiting import Waiting
from .yjs import DamagedError, begin, commit, contains, decode_state_vector, difference, observe, state, state_vector

MAX_WAITING_SIZE = 4_194_304
"""Bytes of updates that wait for others; a client that goes on sending more is refused."""

MAX_UNSOUND = 10
"""Updates that are found to be unsound one by one."""

LITTLE = 1024
"""Bytes that wait for which nobody has to wait when they are integrated."""
LARGE = 32_768
"""Bytes of an update, or of a document that is built anew, for which nobody else should have to wait."""

EMPTY = b"\x00"
"""The state vector of a document in which nothing is."""

MARK = b"\x00waits"
"""Ends an update that waits where it is stored. Yjs ignores what follows an update's end."""

log = structlog.get_logger()


def _nothing() -> None:
    """Do nothing: nobody observes."""


class Changes(NamedTuple):
    """What a commit gave.

    Attributes:
        updates: what changed the document.
        held: updates that wait for others, marked as such: they are in no state, so nothing else would keep them.
    """

    updates: list[bytes]
    held: list[bytes]


class Document:
    """One Yjs document.

    Args:
        stored: returns everything that this document gave and was given to keep; called now, and again
            whenever the document has to be built anew.

    Attributes:
        clocks: how much is known of every client that ever wrote.
        waiting: updates of which a part waits for others.
        pending_size: bytes of what was integrated and held since the last commit.
        size: bytes of all that would have to be integrated to build the document anew.

    Raises:
        DamagedError: what is stored is not sound.
    """

    def __init__(self, stored: Callable[[], Sequence[bytes]]) -> None:
        self._stored = stored
        self._transaction: Transaction | None = None
        self._given: list[bytes] = []  # what was integrated since the last commit
        self.pending_size = 0
        self._updates: list[bytes] = []
        self._held: list[bytes] = []
        self._prepared: bytes | None = None  # the state, until it changes
        self._unsound: set[bytes] = set()  # updates that waited, and damage the document
        self.size = 0
        self._patient = True
        self._broken = False  # what was integrated last has damaged the document, which is not repaired yet
        self._refused: list[bytes] = []  # what was to blame for that when it was repaired
        self._portions = Portions()
        self._halves = Halves()
        self._cut: set[Id] = set()  # second halves of characters that were replaced
        self.clocks: dict[int, int]
        self._doc: Doc[Any]
        self._unobserve: Callable[[], None] = _nothing
        self._load()

    @property
    def changed(self) -> bool:
        """Whether `commit` has something to give."""
        return bool(self._given or self._updates or self._held)

    @property
    def pending(self) -> int:
        """How many updates wait for the commit."""
        return len(self._given) + len(self._held)

    def integrate(self, update: bytes, *, patient: bool = True) -> None:
        """Integrate an update as far as it can be, and keep what has to wait for others.

        Args:
            update: from outside.
            patient: whether it may take long.

        Raises:
            MalformedError: it is not sound; the document goes on without it.
            TakesLongError: it may take long; until it was integrated with patience, nothing else may be done.
        """
        if not patient and (self._broken or self._takes_long(update)):
            raise TakesLongError
        if self._broken:
            self.mend()
        if self._refused and update in self._refused:
            self._refused = []
            raise MalformedError("not a sound Yjs update")
        self._patient = patient
        clocks = self._take_in(update)
        self.pending_size += len(update)
        self.size += len(update)
        # What waited for this may be what more waits for.
        while clocks and len(self.waiting):
            arrived: dict[int, int] = {}
            for held in self.waiting.take(clocks):
                try:
                    arrived |= self._take_in(held, known=True)
                except MalformedError as error:
                    log.warning("an update that had waited is not sound and was dropped", error=str(error))
            clocks = arrived

    def mend(self) -> None:
        """Repair the document if what was integrated last has damaged it, and there was no patience for that."""
        if self._broken:
            self._refused = self._repair()

    def commit(self) -> Changes:
        """Return what changed since the last time."""
        self._end()
        changes = Changes(self._updates, [held + MARK for held in self._held])
        self._updates, self._held = [], []
        self.pending_size = 0
        return changes

    def state_vector(self) -> bytes:
        """Return how much of every client is known, encoded."""
        self._end()
        return state_vector(self._doc)

    def state(self) -> bytes:
        """Return the document as one update; what waits is not in it."""
        self._end()
        return state(self._doc)

    def difference(self, known: bytes) -> bytes:
        """Return the update that brings a document at the state vector `known` to where this one is.

        Raises:
            MalformedError: this is not a state vector.
        """
        prepared, self._prepared = self._prepared, None  # it is as large as the document
        if prepared is not None and known == EMPTY:
            return prepared
        self._end()
        return difference(self._doc, known)

    def prepare(self) -> None:
        """Encode the state ahead, for the first one that asks for a difference, if that one has nothing yet."""
        self._prepared = self.state()

    def whole(self) -> list[bytes]:
        """Return updates that are all of this document: what waits, marked as such, and then its state."""
        return [*(update + MARK for update in self.waiting), self.state()]

    def close(self) -> None:
        """Let the document go; what is not committed is lost, and nothing more can be integrated."""
        self._forget()
        # This leads to the room, which has the document: only a full garbage collection, which may not come for
        # hours, would find them.
        del self._stored

    def _take_in(self, update: bytes, *, known: bool = False) -> Mapping[int, int]:
        """Integrate what can be and keep the rest; return the clocks of what was new.

        Args:
            update: from outside.
            known: whether it is stored already.
        """
        ready, clocks, rest, needs, parts = split(update, self.clocks, sys.maxsize if known else MAX_PARTS)
        if (self._halves or has_large(update)) and self._cuts(update):
            return self._take_in(replace(update, self._cut), known=known)
        new = rest is not None and rest not in self.waiting
        if new and self.waiting.size + len(rest or b"") > MAX_WAITING_SIZE:
            raise MalformedError("too much waits for updates that never came")
        if ready is not None:
            if self._transaction is None:
                self._transaction = begin(self._doc)
                self._prepared = None
            self._given.append(update)
            try:
                # What has waited was taken from there, so it may not be left half done.
                self._portions.give(self._doc, ready, self.clocks, parts, patient=self._patient or known)
            except (MalformedError, TakesLongError):
                self._given.pop()
                raise
            except TooSlowError:
                self._given.pop()
                self._repair()
                raise MalformedError("it takes too long to integrate this") from None
            except DamagedError as error:
                self._broken = True
                if not self._patient and self.size >= LARGE:
                    raise TakesLongError from None
                if update in self._repair():
                    raise MalformedError(f"not a sound Yjs update: {error}") from None
                return {}
            self.clocks.update(clocks)
        if new and rest is not None:
            self.waiting.add(rest, needs)
            if not known:
                self._held.append(rest)
        return clocks

    def _takes_long(self, update: bytes) -> bool:
        """Return whether it may take long to integrate an update, as far as can be told before."""
        if len(update) >= LARGE or self._portions.slow:
            return True
        large, waiting = self.size >= LARGE, self.waiting.size
        if not large and waiting <= LITTLE:
            return False
        may_cut = large and (self._halves or has_large(update))
        may_release = waiting and (large or waiting > LITTLE)
        if not may_cut and not may_release:
            return False
        try:
            if may_release and self.waiting.awaits(section.client for section in read(update)[0]):
                return True
            return bool(may_cut and cuts(update, self._halves))
        except (MalformedError, UnicodeDecodeError, IndexError):
            return False  # it is refused in no time

    def _cuts(self, update: bytes) -> bool:
        """Return whether an update cuts characters; those that are in the document already are replaced there.

        Where one is replaced that has been sent already, clients that count UTF-16 do that themselves.
        """
        halves = Halves()
        halves.add(update)
        cut = cuts(update, halves, self._halves)
        if not cut:
            self._halves.add(update)
            return False
        here = any(element in self._halves for element in cut)
        self._cut |= cut
        if here:
            self._end()
            self._forget()
            self._load()
        return True

    def _end(self) -> None:
        """End the transaction, if there is one; its update is with `_updates` then."""
        self.mend()
        if self._transaction is None:
            return
        transaction, self._transaction = self._transaction, None
        try:
            commit(transaction)
        except DamagedError as error:
            log.warning("updates are not sound and were dropped", error=str(error), updates=len(self._repair()))
        self._given = []

    def _repair(self) -> list[bytes]:
        """Build the document again after something damaged it; return what of `_given` that was.

        Each is now a transaction of its own, so that one that is sound is not lost with another.
        """
        self._broken = False
        given, self._given = self._given, []
        self._forget()
        self._load()
        unsound = []
        for update in given:
            try:
                rest = self._load_one(update)
            except (DamagedError, MalformedError):
                unsound.append(update)
                self._forget()
                self._load()
                continue
            if rest is not None:
                self._held.append(rest)  # perhaps again, which does no harm
            if not self._load_waiting(()):
                self._forget()
                self._load()
        return unsound

    def _forget(self) -> None:
        """Let go of the document; what a transaction that is still open says to that is of no use."""
        self._prepared = None
        self._unobserve()
        self._unobserve = _nothing
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            try:
                commit(transaction)
            except DamagedError:
                log.debug("a document that was let go failed once more")

    def _load(self) -> None:
        """Build the document from everything that is stored, and what was committed since."""
        stored = self._stored()
        held = [update.removesuffix(MARK) for update in stored if update.endswith(MARK)]
        updates = [*(update for update in stored if not update.endswith(MARK)), *self._updates]
        held += self._held
        self._halves = Halves()
        try:
            updates, held = replace_all(updates, held, self._cut, self._halves)
        except (MalformedError, UnicodeDecodeError, IndexError) as error:
            # Another server may have stored what we would not take; yrs is to say whether it can be read.
            log.debug("a document was not looked through for halves of characters", error=str(error))
        self.size = sum(map(len, updates)) + sum(map(len, held))
        self.waiting = Waiting()
        try:
            if not self._load_fast(updates):
                self._doc = Doc()
                self.clocks = {}
                for update in updates:
                    self._load_one(update)
        except (MalformedError, UnicodeDecodeError, IndexError) as error:
            raise DamagedError(str(error)) from None
        if self._load_waiting(held):
            self._unobserve = observe(self._doc, self._observed)
        else:
            self._load()

    def _load_fast(self, updates: Sequence[bytes]) -> bool:
        """Integrate what this server has integrated before; return whether it could be.

        If not, another server wrote some of it, and left in it what waits: yrs is to be given no more then.
        """
        self._doc = Doc()
        try:
            for update in updates:
                much = len(update) if len(update) >= LARGE or self._portions.slow else 0
                self._give(update, decode_state_vector(state_vector(self._doc)) if much else {}, much)
                if not contains(self._doc, update):
                    return False
        except (DamagedError, MalformedError):
            return False
        self.clocks = decode_state_vector(state_vector(self._doc))
        return True

    def _load_one(self, update: bytes) -> bytes | None:
        """Integrate what can be, in a transaction of its own; return what has to wait."""
        ready, clocks, rest, needs, parts = split(update, self.clocks)
        if ready is not None:
            self._give(ready, self.clocks, parts)
            self.clocks.update(clocks)
        if rest is not None:
            self.waiting.add(rest, needs)
        return rest

    def _give(self, update: bytes, known: Mapping[int, int], parts: int) -> None:
        """Integrate what is stored, or was at least integrated before."""
        try:
            self._portions.give(self._doc, update, known, parts, patient=True)
        except TooSlowError as error:
            raise DamagedError(str(error)) from None

    def _load_waiting(self, updates: Sequence[bytes]) -> bool:
        """Integrate what waited and need not any more; return whether the document is still sound.

        An update is kept when it comes, and only found to be unsound when what it waited for has come: nobody
        ever saw it, and it must not cost the document.
        """
        updates = [*updates, *self.waiting.take(self.clocks)]
        while updates:
            for update in updates:
                if update in self._unsound:
                    continue
                try:
                    self._load_one(update)
                except (DamagedError, MalformedError) as error:
                    log.warning("an update that had waited is not sound and was left out", error=str(error))
                    self._unsound.add(update)
                    if len(self._unsound) > MAX_UNSOUND:  # whoever sends so many is not to be given more time
                        self._unsound.update(updates, self.waiting)
                    return False
            updates = self.waiting.take(self.clocks)
        return True

    def _observed(self, update: bytes) -> None:
        self._updates.append(update)
