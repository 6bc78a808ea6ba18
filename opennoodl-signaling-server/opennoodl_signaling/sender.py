"""Sends messages to clients, and counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from .edge.errors import BadMessage
from .edge.messages import Error, encode
from .edge.metrics import Histogram
from .edge.peer import Receiver
from .edge.websocket.frames import encode_frame
from .messages import SignalLost
from .rooms.model import Client
from .rooms.rooms import PeerNotFound

JOIN_SECONDS = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Bounds of the histogram of times from `join` to `joined`, in seconds. A contest takes up to two seconds."""

log = structlog.get_logger()


class Sender:
    """Sends messages to clients, and counts them.

    Args:
        sent: counts messages by type.

    Attributes:
        relayed: number of messages that were passed from client to client, once for each receiver.
        join_seconds: histogram of the times from `join` to `joined`.
    """

    def __init__(self, sent: Counter[str]) -> None:
        self.relayed = 0
        self.join_seconds = Histogram(JOIN_SECONDS)
        self._sent = sent

    def relay(self, to: Collection[Client], payload: bytes, name: str) -> None:
        """Send a payload to each client in `to`. It is serialized once for all of them.

        Args:
            to: the receivers.
            payload: the message, as JSON.
            name: the type of the message.
        """
        frame = encode_frame(payload, text=True)
        self._sent[name] += len(to)
        if name in ("publish", "signal", "invite"):
            self.relayed += len(to)
        for client in to:
            client.connected.write_soon(frame)

    def refuse(self, receiver: Receiver, bad: BadMessage) -> None:
        """Send the error about a message to its sender, and count it."""
        log.debug("refused", code=bad.code)
        receiver.note_error(bad)
        if isinstance(bad, PeerNotFound):
            error: Error = SignalLost(bad.error, bad.code, bad.request_id, bad.peer_id)
        else:
            error = Error(bad.error, bad.code, bad.request_id)
        self._sent["error"] += 1
        receiver.write_soon(encode_frame(encode(error), text=True))

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics of this class."""
        yield self.join_seconds.family("opennoodl_signaling_join_seconds", "Time from `join` to `joined`.")
        yield CounterMetricFamily("opennoodl_signaling_relayed", "Messages passed to clients.", self.relayed)
