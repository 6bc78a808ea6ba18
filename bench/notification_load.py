"""Inboxes: notifications sent to users with two devices each, until they are stored and until they are shown."""

import asyncio
import json
import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSTransport, ws_connect

from .opening import probing
from .outcome import Metric, Outcome, measured, quantile
from .pacer import Due, Pacer
from .protocols import frame
from .servers import Server

STORED_METRICS = (
    Metric("rate", "sends/s", more=True),
    Metric("p50", "p50 ms", digits=2),
    Metric("p99", "p99 ms", digits=2),
    Metric("server_cpu", "server CPU %", more=None),
    Metric("rss", "server RSS MiB", more=None),
    Metric("started", "start s", more=None, digits=2),
)
DELIVERY_METRICS = (
    Metric("p50", "delivered p50 ms", digits=2),
    Metric("p99", "delivered p99 ms", digits=2),
    Metric("sent", "answered p99 ms", more=None, digits=2),
    Metric("hold", "longest hold ms"),
    Metric("server_cpu", "server CPU %"),
    Metric("lag", "generator lag p99 ms", more=None, digits=2),
)
SENDERS = 20
RECEIVERS = 50
SAMPLE = 20
"""Users whose inboxes are read in the end, to see that all is there that was answered."""
LIMIT = 30.0
"""Seconds in which everything has to have come after the last was sent."""

Json = dict[str, Any]


class Device(WSListener):
    """One connection, which keeps what comes and when.

    Attributes:
        came: times and messages.
        waiting: done with the next message.
    """

    def __init__(self) -> None:
        self.came: list[tuple[float, bytes]] = []
        self.waiting: asyncio.Future[bytes] | None = None
        self.transport: asyncio.Transport

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready to write."""
        self.transport = transport.underlying_transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keep what came: the clock runs."""
        payload = frame.get_payload_as_bytes()
        self.came.append((perf_counter(), payload))
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Let nobody wait."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("the server hung up"))

    async def ask(self, message: bytes) -> bytes:
        """Write a frame and return the next message."""
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        async with asyncio.timeout(LIMIT):
            return await self.waiting

    async def read(self, kind: str) -> Json:
        """Wait until a message of this type has come; return it."""
        async with asyncio.timeout(LIMIT):
            while True:
                for _, payload in self.came:
                    message: Json = json.loads(payload)
                    if message["type"] == kind:
                        return message
                await asyncio.sleep(0.001)


async def enter(server: Server, user: str) -> Device:
    """Return a device of `user` that has been shown its inbox."""
    device = Device()
    await ws_connect(lambda: device, server.url(""), max_frame_size=2**27)
    device.transport.write(text(type="authenticate", userId=user))
    await device.read("notifications")
    device.came.clear()
    return device


def text(**message: Any) -> bytes:
    """Return a message as a frame."""
    return frame(msgspec.json.encode(message), binary=False)


def sending(user: str, token: str) -> bytes:
    """Return the frame that sends a notification of the usual size."""
    data = {
        "token": token,
        "roomId": "3f1c8a52-0f5b-4c5e-9f0e-5a1f2f6f7d11",
        "message": "Come and look at this",
        "n": 1,
    }
    return text(type="send-notification", targetUserId=user, notificationType="invite", data=data)


async def saturated(server: Server, *, users: Sequence[str], seconds: float) -> Outcome:
    """Let senders send one after the other, each as soon as the one before is answered.

    Args:
        server: under test.
        users: who may get them.
        seconds: for how long.
    """
    dice = random.Random(1)  # noqa: S311
    senders = [await enter(server, f"sender {number}") for number in range(SENDERS)]
    answered: dict[str, list[str]] = {}
    taken: list[float] = []
    outcome = Outcome()

    async def send(device: Device, name: int, until: float, keep: bool) -> None:
        number = 0
        while perf_counter() < until:
            user, number = dice.choice(users), number + 1
            message = sending(user, f"<{name}.{number}.{keep}>")
            began = perf_counter()
            answer = await device.ask(message)
            if b"notification-sent" not in answer:
                raise ConnectionError(f"the server answers {answer[:200]!r}")
            answered.setdefault(user, []).append(f"<{name}.{number}.{keep}>")
            if keep:
                taken.append(perf_counter() - began)

    for keep, time in ((False, seconds / 5), (True, seconds)):
        until = perf_counter() + time
        with measured(server) as usage:
            async with asyncio.TaskGroup() as tasks:
                for name, device in enumerate(senders):
                    tasks.create_task(send(device, name, until, keep))
    usage.record(outcome)
    outcome.values["rate"] = len(taken) / usage.elapsed
    taken.sort()
    outcome.values["p50"] = 1000 * quantile(taken, 0.5)
    outcome.values["p99"] = 1000 * quantile(taken, 0.99)
    outcome.values["rss"] = server.memory().now
    outcome.values["started"] = server.started
    await check(server, answered, outcome)
    for device in senders:
        device.transport.abort()
    return outcome


async def check(server: Server, answered: dict[str, list[str]], outcome: Outcome) -> None:
    """See that what was answered is in the inboxes of some users."""
    lost = looked = 0
    for user in list(answered)[:SAMPLE]:
        device = Device()
        await ws_connect(lambda device=device: device, server.url(""), max_frame_size=2**27)
        device.transport.write(text(type="authenticate", userId=user))
        page = await device.read("notifications")
        found = b"".join(payload for _, payload in device.came)
        while page["hasMore"]:
            device.came.clear()
            before = page["notifications"][-1]["createdAt"]
            device.transport.write(text(type="get-notifications", limit=200, before=before))
            page = await device.read("notifications")
            found += b"".join(payload for _, payload in device.came)
        lost += sum(token.encode() not in found for token in answered[user])
        looked += len(answered[user])
        device.transport.abort()
    outcome.values["found"] = 1 - lost / max(looked, 1)
    if lost:
        outcome.notes.append(f"LOST {lost} of {looked} that were answered")


async def _all_shown(devices: Sequence[Device], count: int) -> None:
    """Wait until so many messages have come to the devices together, or for as long as that may take."""
    for _ in range(int(LIMIT * 100)):
        if sum(len(device.came) for device in devices) >= count:
            return
        await asyncio.sleep(0.01)  # an event for each message would disturb what is measured


async def rewriting(server: Server, *, rate: float, seconds: float) -> Outcome:
    """Do the same as `delivery`, for so long that the server with a file has to write it anew."""
    file = server.data / "notifications.json"
    former = file.stat().st_ino
    outcome = await delivery(server, rate=rate, warm=2.0, seconds=seconds)
    if file.stat().st_ino == former:
        outcome.notes.append("the file was NOT written anew meanwhile")
    return outcome


async def delivery(server: Server, *, rate: float, warm: float, seconds: float) -> Outcome:
    """Send when it is due, whether or not the server keeps up; wait for the receivers' second devices.

    Args:
        server: under test.
        rate: sends a second.
        warm: seconds before anything counts.
        seconds: that count.
    """
    senders = [await enter(server, f"sender {number}") for number in range(SENDERS)]
    devices = [[await enter(server, f"receiver {number}") for _ in range(2)] for number in range(RECEIVERS)]
    count, ignored = round(rate * (warm + seconds)), round(rate * warm)
    schedule = [
        Due(
            number / rate,
            senders[number % SENDERS].transport.write,
            sending(f"receiver {number % RECEIVERS}", f"<{number}>"),
        )
        for number in range(count)
    ]
    pacer, outcome = Pacer(schedule), Outcome()
    async with probing(server, b'{"type":"authenticate","userId":"probe"}') as hold:
        with measured(server) as usage:
            await pacer.run()
            await _all_shown([second for _, second in devices], count)
        stopped = perf_counter()
    usage.record(outcome, per=warm + seconds)
    outcome.values["hold"] = hold.ms
    outcome.values["lag"] = 1000 * quantile(sorted(pacer.lags), 0.99)
    shown: dict[int, float] = {}
    for _, second in devices:
        for at, payload in second.came:
            message = json.loads(payload)
            shown[int(message["notification"]["data"]["token"][1:-1])] = at
    due = [pacer.start + number / rate for number in range(count)]
    latencies = sorted((shown.get(number) or stopped) - due[number] for number in range(ignored, count))
    answers = [
        at - due[sender + place * SENDERS]
        for sender, device in enumerate(senders)
        for place, (at, _) in enumerate(device.came)
        if sender + place * SENDERS >= ignored
    ]
    outcome.values["p50"] = 1000 * quantile(latencies, 0.5)
    outcome.values["p99"] = 1000 * quantile(latencies, 0.99)
    if answers:
        outcome.values["sent"] = 1000 * quantile(sorted(answers), 0.99)
    outcome.values["found"] = len(shown) / count
    if len(shown) < count:
        outcome.notes.append(f"{len(shown) / count:.0%} delivered {LIMIT:.0f} s after the last was sent")
    for device in [*senders, *(one for pair in devices for one in pair)]:
        device.transport.abort()
    return outcome
