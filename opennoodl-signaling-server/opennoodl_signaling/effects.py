"""Performs the effects that the domain returns: messages, closes, timers of absent peers, and contests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from time import perf_counter, time

from .edge.errors import BadMessage
from .edge.messages import Error, encode, request_id
from .ice import Ice
from .messages import Joined
from .rooms.model import CONTEST_TIMEOUT, Away, Back, Client, Close, Contest, Effect, Probe, Send
from .rooms.rooms import Rooms
from .sender import Sender


class Effects(Sender):
    """Performs effects.

    Args:
        rooms: receives the outcome of contests, and the end of the grace of absent peers.
        ice: adds the ICE servers to `joined`.
        grace: seconds for which the place of an absent peer is reserved.
        sent: counts messages by type.

    Attributes:
        absent: the timers of absent peers.
    """

    def __init__(self, rooms: Rooms, ice: Ice, grace: float, sent: Counter[str]) -> None:
        super().__init__(sent)
        self.absent: dict[Client, asyncio.TimerHandle] = {}
        self._rooms = rooms
        self._ice = ice
        self._grace = grace
        self._contests: set[asyncio.Task[None]] = set()

    def perform(self, effects: Iterable[Effect], cause: bytes = b"", started: float = 0.0) -> None:
        """Perform effects in their order.

        Args:
            effects: the effects.
            cause: the bytes of the `join` that caused them; empty for another cause.
            started: the time at which that `join` arrived, as `perf_counter` has it.
        """
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    if isinstance(message, Joined):
                        (client,) = to
                        message = self._ice.add_servers(message, client.info.user_id, time())
                    self.relay(to, encode(message), str(message.__struct_config__.tag))
                    if isinstance(message, Joined):
                        self.join_seconds.observe(perf_counter() - started)
                    elif isinstance(message, Error):
                        for receiver in to:
                            receiver.connected.note_error(BadMessage(message.code, message.error))
                case Close(client=client, code=code, reason=reason, refusal=refusal):
                    client.connected.disconnect(code, reason, refusal)
                case Contest():
                    task = asyncio.get_running_loop().create_task(self._settle(effect, cause, started))
                    self._contests.add(task)
                    task.add_done_callback(self._contests.discard)
                case Away(client=client):
                    client.peer = None  # frees the lost connection
                    loop = asyncio.get_running_loop()
                    self.absent[client] = loop.call_later(self._grace, self._give_up, client)
                case Back(client=client):
                    self.absent.pop(client).cancel()
                case Probe(client=client):
                    client.connected.probe()

    def give_up_all(self) -> None:
        """End all absences, because the server stops."""
        for client, timer in list(self.absent.items()):
            timer.cancel()
            self._give_up(client)

    def _give_up(self, client: Client) -> None:
        del self.absent[client]
        self.perform(self._rooms.give_up(client))

    async def _settle(self, contest: Contest, cause: bytes, started: float) -> None:
        """Ping the holder of a contested peer id, then call `Rooms.settle` with the result."""
        holder = contest.holder.peer
        alive = holder is not None and await holder.is_alive(CONTEST_TIMEOUT)
        try:
            self.perform(self._rooms.settle(contest, alive), cause, started)
        except BadMessage as bad:
            bad.request_id = request_id(cause)
            self.refuse(contest.newcomer.connected, bad)
