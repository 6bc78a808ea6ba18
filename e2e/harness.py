"""Starts the servers and the JavaScript clients, and waits for their events."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from fork_server import fork

HERE = Path(__file__).parent
# Variables that a server inherits from the tests; others, such as PORT or AUTH, must not change its settings.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
# A line may have the text of a whole document.
LONGEST_LINE = 2**24
PATIENCE = 60.0
"""Time limit for an event, in seconds: three node processes and a server start slowly on a busy machine."""
SOON = 10.0
"""Time limit for clients to see each other, in seconds; y-protocols itself repeats a state after 15."""
PATIENT = """
from opennoodl_sync import __main__ as program
from opennoodl_sync.edge import service
from opennoodl_sync.pages import routes
service.OPEN_TIMEOUT = routes.PATIENCE = 60
program.main()
"""
"""Runs a sync server that answers when a restoration is complete: its process starts slowly on a busy machine."""

Event = dict[str, Any]
# The result of a command of a driver, of any type.
Value: TypeAlias = Any


def environment(data: Path, **settings: object) -> dict[str, str]:
    """Return the environment of a server with its own data directory."""
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {"HOST": "127.0.0.1", "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
    env |= {"PERSIST_DIR": str(data), "DB_FILE": str(data / "notifications.json")}
    return env | {name: str(value) for name, value in settings.items()}


class Child(Protocol):
    """A running process that reports events: the part of `asyncio.subprocess.Process` that is used here."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...  # noqa: D102
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...  # noqa: D102
    @property
    def returncode(self) -> int | None: ...  # noqa: D102
    def send_signal(self, signal: int, /) -> None: ...  # noqa: D102
    def kill(self) -> None: ...  # noqa: D102
    async def wait(self) -> int: ...  # noqa: D102


class Process:
    """A child process that reports events as JSON lines on its standard output."""

    def __init__(self, name: str, argv: Sequence[str], cwd: Path) -> None:
        self.name = name
        self._argv = argv
        self._cwd = cwd
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._events: list[Event] = []
        self.complaints: list[str] = []
        self.output: list[str] = []

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._reader is not None and not self._reader.done()

    async def _start(self, *, stdin: int, env: Mapping[str, str] | None = None) -> None:
        self._follow(
            await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._cwd,
                env=env,
                limit=LONGEST_LINE,
            )
        )

    def _follow(self, child: Child) -> None:
        """Read the events of a process that was just started."""
        self._events.clear()
        self._child = child
        self._reader = asyncio.create_task(self._read(child))

    async def _read(self, child: Child) -> None:
        assert child.stdout is not None
        async for raw in child.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.output.append(line)
            async with self._news:
                try:
                    event = json.loads(line)
                    self._events.append(event)
                except ValueError:
                    event = {}
                if not event or self.is_complaint(event):
                    self.complaints.append(line)
                self._news.notify_all()
        await child.wait()
        async with self._news:
            self._news.notify_all()

    def is_complaint(self, event: Event) -> bool:
        """Return whether an event reports an error in the process."""
        return False

    async def _take(self, wanted: Callable[[Event], bool], what: str, patience: float) -> Event:
        """Return and remove the first event for which `wanted` is true; wait for it if necessary."""
        try:
            async with asyncio.timeout(patience), self._news:
                while True:
                    for index, event in enumerate(self._events):
                        if wanted(event):
                            return self._events.pop(index)
                    assert self.running, f"{self.name} ended before {what}:\n{self.tail()}"
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: no {what} within {patience} s:\n{self.tail()}") from None

    async def event(self, name: str, patience: float = PATIENCE, /, **fields: object) -> Event:
        """Return and remove the first event with this name and these fields; wait for it if necessary."""

        def wanted(event: Event) -> bool:
            return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())

        return await self._take(wanted, f"{name} {fields}", patience)

    def pending(self, name: str) -> list[Event]:
        """Return the events with this name that were not removed."""
        return [event for event in self._events if event.get("event") == name]

    def tail(self) -> str:
        """Return the end of the process's output."""
        return "\n".join(line[:500] for line in self.output[-15:])

    async def _end(self, how: signal.Signals, patience: float) -> int:
        assert self._child is not None
        assert self._reader is not None
        if self._child.returncode is None:
            self._child.send_signal(how)
        try:
            await asyncio.wait_for(asyncio.shield(self._reader), patience)
        except TimeoutError:
            what = "outlived" if self._child.returncode is None else "left its output open to another process after"
            if self._child.returncode is None:
                self._child.kill()
            await asyncio.wait([self._reader], timeout=SOON)
            self._reader.cancel()
            raise AssertionError(f"{self.name} {what} {how.name} by {patience} s:\n{self.tail()}") from None
        return await self._child.wait()

    async def kill(self) -> None:
        """Kill the process."""
        await self._end(signal.SIGKILL, PATIENCE)


class Server(Process):
    """One of the three servers, with a free port and its own data directory."""

    def __init__(self, module: str, data: Path, env: Mapping[str, str]) -> None:
        super().__init__(module, [], data)
        self._program = f"from {module}.__main__ import main; main()"
        self._env = env
        self.port = 0

    def run(self, program: str) -> None:
        """Run a Python program instead of the module."""
        self._program = program

    @property
    def url(self) -> str:
        """The URL for WebSocket clients."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        """The URL for HTTP clients."""
        return f"http://127.0.0.1:{self.port}"

    def is_complaint(self, event: Event) -> bool:
        """Return whether the server has logged an error; clients here give no reason for one."""
        return event.get("level") in {"error", "critical"} or "exception" in event

    async def start(self) -> None:
        """Start the server, on its previous port if it had one, and wait until it listens."""
        self._follow(await fork(self._program, self._cwd, {**self._env, "PORT": str(self.port)}, LONGEST_LINE))
        listening = await self.event("listening")
        assert self.port in {0, listening["port"]}
        self.port = listening["port"]

    async def stop(self) -> None:
        """Send SIGTERM, and check that the server exits with code 0."""
        code = await self._end(signal.SIGTERM, PATIENCE)
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    async def health(self) -> Event:
        """Return the content of ``/health``."""

        def get() -> Event:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", "/health")
                found: Event = json.load(connection.getresponse())
                return found
            finally:
                connection.close()

        return await asyncio.to_thread(get)

    async def restart(self) -> None:
        """Stop the server if it runs, and start it with the same port and data."""
        if self.running:
            await self.stop()
        await self.start()

    async def close(self) -> None:
        """End the server after a test; it must not have logged an error."""
        if self.running:
            await self.stop()
        assert not self.complaints, f"{self.name} complains:\n" + "\n".join(self.complaints)


class Client(Process):
    """A process that runs clients and executes commands: in Node or Python."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(name, argv, HERE)
        self._environment = environment
        self._last_id = 0

    async def start(self) -> None:
        """Start the process without waiting for Node, which is slow; commands wait in the pipe.

        Tests start their clients before their servers, so that they start at the same time.
        """
        await self._start(stdin=asyncio.subprocess.PIPE, env={**os.environ, **self._environment})

    async def send(self, command: str, **arguments: object) -> int:
        """Send a command without waiting for its answer; return the number of the answer."""
        assert self._child is not None
        assert self._child.stdin is not None
        self._last_id += 1
        number = self._last_id
        line = json.dumps({"id": number, "command": command, **arguments})
        self._child.stdin.write(line.encode() + b"\n")
        try:
            await asyncio.wait_for(self._child.stdin.drain(), PATIENCE)
        except TimeoutError:
            raise AssertionError(f"{self.name} has not read {command} within {PATIENCE} s:\n{self.tail()}") from None
        return number

    async def call(self, command: str, patience: float = PATIENCE, /, **arguments: object) -> Value:
        """Send a command; return its result."""
        number = await self.send(command, **arguments)
        answer = await self._take(lambda event: event.get("id") == number, f"answer to {command}", patience)
        assert answer["event"] == "answer", f"{self.name} failed at {command}: {answer['error']}"
        return answer.get("value")

    def is_complaint(self, event: Event) -> bool:
        """Return whether a command failed, which no test expects."""
        return event.get("event") == "failed"

    async def close(self) -> None:
        """End the process after a test; it must not have reported an error."""
        if self.running:
            await self._end(signal.SIGTERM, PATIENCE)
        assert not self.complaints, f"{self.name} complains:\n" + "\n".join(self.complaints)


class StartServer(Protocol):
    """The fixture `server`."""

    async def __call__(self, kind: str, /, **settings: object) -> Server:
        """Start a server, with settings as in its environment: `await server("sync", RATE_LIMIT=0)`."""
        ...


class StartClient(Protocol):
    """The fixture `client`."""

    async def __call__(self, driver: str, /, **environment: str) -> Client:
        """Start clients: `await client("websocket")` runs clients/websocket.mjs, and a name with .py a file here."""
        ...
