"""Notifications through several instances: sends a second, and the latency to a device."""

import asyncio
import json
from collections.abc import Callable, Mapping
from statistics import quantiles
from time import perf_counter
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect

from .cluster import Usage
from .servers import Server


class Sends(NamedTuple):
    """The results of one measurement.

    Attributes:
        number: answered sends.
        seconds: in which they were sent.
        cpu: seconds, by process.
    """

    number: int
    seconds: float
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Sends a second."""
        return self.number / self.seconds


async def device(instance: Server, user: str) -> ClientConnection:
    """Return a connection of a user that has its list."""
    client = await connect(instance.url(""), proxy=None, compression=None, max_size=None)
    await client.send(json.dumps({"type": "authenticate", "userId": user}))
    await client.recv()
    await client.recv()
    return client


def sending(user: str, number: int) -> str:
    """Return a message that sends a notification of about 200 bytes."""
    data = {"text": "x" * 150, "at": perf_counter()}
    fields = {"targetUserId": user, "notificationType": "mention", "data": data, "requestId": number}
    return json.dumps({"type": "send-notification", **fields})


async def throughput(
    running: list[Server], senders: int, seconds: float, usage: Callable[[], Usage], *, listeners: bool
) -> Sends:
    """Let senders send, each one after its last answer.

    Args:
        running: the instances; senders connect to them in turn.
        senders: how many.
        seconds: for which they send.
        usage: begins to count CPU.
        listeners: whether each receiver has a device, at another instance than its sender if there are several.
    """
    done = 0
    clients = [await device(running[number % len(running)], f"s{number}") for number in range(senders)]
    others = [running[(number + 1) % len(running)] for number in range(senders if listeners else 0)]
    heard = [await device(other, f"u{number}") for number, other in enumerate(others)]

    async def drain(client: ClientConnection) -> None:
        async for _ in client:
            pass

    async def send(client: ClientConnection, number: int) -> None:
        nonlocal done
        while perf_counter() < end:
            await client.send(sending(f"u{number}", done))
            await client.recv()
            done += 1

    draining = [asyncio.create_task(drain(client)) for client in heard]
    counted = usage()
    began = perf_counter()
    end = began + seconds
    await asyncio.gather(*(send(client, number) for number, client in enumerate(clients)))
    took = perf_counter() - began
    cpu = counted.since()
    for task in draining:
        task.cancel()
    for client in (*clients, *heard):
        await client.close()
    return Sends(done, took, cpu)


async def latency(sender_at: Server, receiver_at: Server, number: int, rate: float) -> tuple[float, float]:
    """Return p50 and p99, in milliseconds, from sending a notification until a device has it."""
    sender, receiver = await device(sender_at, "s"), await device(receiver_at, "u")
    times: list[float] = []

    async def receive() -> None:
        for _ in range(number):
            event = json.loads(await receiver.recv())
            times.append(perf_counter() - event["notification"]["data"]["at"])

    receiving = asyncio.create_task(receive())
    for each in range(number):
        await sender.send(sending("u", each))
        await asyncio.sleep(1 / rate)
    await receiving
    for client in (sender, receiver):
        await client.close()
    cuts = quantiles(times, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]
