"""The effects: does what the domain decided. Sends and closes, keeps the timers of absent peers, settles contests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from time import perf_counter, time

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from .edge.errors import BadMessage
from .edge.messages import Error, encode, request_id
from .edge.metrics import Histogram, counters
from .edge.peer import Peer
from .edge.websocket.frames import encode_frame
from .ice import Ice
from .messages import Joined, SignalLost
from .rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Send
from .rooms.rooms import PeerNotFound, Rooms

CONTEST_TIMEOUT = 2.0
"""Seconds that the holder of a contested peer id has to answer a ping."""
JOIN_SECONDS = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Bounds of the times from `join` to `joined`; a contest takes up to `CONTEST_TIMEOUT`."""

log = structlog.get_logger()


class Effects:
    """Performs effects, and counts what clients are sent.

    Args:
        rooms: is told the outcome of contests, and when the grace of an absent peer is over.
        ice: adds servers to the answer to `join`.
        grace: seconds for which the place of an absent peer is kept.
        sent: counts messages by type.

    Attributes:
        relayed: how many messages were passed from client to client.
        absent: the timers of the absent peers.
    """

    def __init__(self, rooms: Rooms, ice: Ice, grace: float, sent: Counter[str]) -> None:
        self.relayed = 0
        self.absent: dict[Client, asyncio.TimerHandle] = {}
        self._rooms = rooms
        self._ice = ice
        self._grace = grace
        self._sent = sent
        self._contests: set[asyncio.Task[None]] = set()
        self._join_seconds = Histogram(JOIN_SECONDS)
        self._errors: Counter[str] = Counter()

    def perform(self, effects: Iterable[Effect], cause: bytes = b"", started: float = 0.0) -> None:
        """Do what the domain decided.

        Args:
            effects: what is to be done, in order.
            cause: the `join` that caused it, if it was one.
            started: when that came.
        """
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    if isinstance(message, Joined):
                        (client,) = to
                        message = self._ice.furnish(message, client.info.user_id, time())
                    self.relay(to, encode(message), str(message.__struct_config__.tag))
                    if isinstance(message, Joined):
                        self._join_seconds.observe(perf_counter() - started)
                    elif isinstance(message, Error):
                        self._errors[message.code] += len(to)
                case Close(client=client, code=code, reason=reason):
                    client.connected.disconnect(code, reason)
                case Contest():
                    task = asyncio.get_running_loop().create_task(self._settle(effect, cause, started))
                    self._contests.add(task)
                    task.add_done_callback(self._contests.discard)
                case Away(client=client):
                    client.peer = None  # a dead connection need not be kept
                    loop = asyncio.get_running_loop()
                    self.absent[client] = loop.call_later(self._grace, self._give_up, client)
                case Back(client=client):
                    self.absent.pop(client).cancel()
                case Probe(client=client):
                    client.connected.probe()

    def relay(self, to: Collection[Client], payload: bytes, name: str) -> None:
        """Send one payload to every one of `to`, in one frame for all.

        Args:
            to: the receivers.
            payload: JSON.
            name: the type of the message.
        """
        frame = encode_frame(payload, text=True)
        self._sent[name] += len(to)
        if name in ("publish", "signal", "invite"):
            self.relayed += len(to)
        for client in to:
            client.connected.write_soon(frame)

    def refuse(self, peer: Peer, bad: BadMessage) -> None:
        """Tell the sender of a bad message, and count it."""
        log.debug("refused", code=bad.code)
        self._errors[bad.code] += 1
        if isinstance(bad, PeerNotFound):
            error: Error = SignalLost(bad.error, bad.code, bad.request_id, bad.peer_id)
        else:
            error = Error(bad.error, bad.code, bad.request_id)
        self._sent["error"] += 1
        peer.write_soon(encode_frame(encode(error), text=True))

    def give_up_all(self) -> None:
        """Let all absent peers go: the server stops."""
        for client, timer in list(self.absent.items()):
            timer.cancel()
            self._give_up(client)

    def metric_families(self) -> Iterable[Metric]:
        """Return what was counted here."""
        yield self._join_seconds.family("opennoodl_signaling_join_seconds", "Time from `join` to `joined`.")
        yield counters("opennoodl_signaling_errors", "Errors that clients were sent, by code.", "code", self._errors)
        yield CounterMetricFamily("opennoodl_signaling_relayed", "Messages passed to clients.", self.relayed)

    def _give_up(self, client: Client) -> None:
        del self.absent[client]
        self.perform(self._rooms.give_up(client))

    async def _settle(self, contest: Contest, cause: bytes, started: float) -> None:
        """Ping the holder of a contested peer id, and let the answer decide."""
        holder = contest.holder.peer
        alive = holder is not None and await holder.is_alive(CONTEST_TIMEOUT)
        try:
            self.perform(self._rooms.settle(contest, alive), cause, started)
        except BadMessage as bad:
            bad.request_id = request_id(cause)
            self.refuse(contest.newcomer.connected, bad)
