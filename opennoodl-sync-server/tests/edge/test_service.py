"""A service starts or says in one line why not, and drains when it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from .certificates import Files, certify
from .conftest import Connect, OpenRaw, Serve
from .harness import CLOSE, HANDSHAKE, PACKAGE, PING, PROCESS_TIMEOUT, TIMEOUT, Echo, masked, request, service, watchdog

pytestmark = pytest.mark.slow

INHERITED = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
Start = Callable[..., "subprocess.Popen[str]"]


async def test_port_0_takes_a_free_port(serve: Serve) -> None:
    """Port 0 takes any free one, and the service knows which."""
    running = await serve()
    assert running.port > 0
    assert (await request(running.port, "GET /health")).status == 200


async def test_port_in_use_is_a_start_error() -> None:
    """A port that is taken is a StartError of one line that names it, after what was opened is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        starting = service.Service(Echo(), port)
        with pytest.raises(Exception, match="already in use") as info:
            await starting.start()
    assert type(info.value).__name__ == "StartError"
    assert str(port) in str(info.value)
    assert "\n" not in str(info.value)
    assert starting.app.history(-1) == ["stop"]


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
async def test_bad_host_is_a_start_error(host: str) -> None:
    """An address that cannot be listened on is a StartError of one line that names it and says why."""
    with pytest.raises(Exception, match=host) as info:
        await service.Service(Echo(host=host), 0).start()
    assert type(info.value).__name__ == "StartError"
    assert "\n" not in str(info.value)
    assert "Unknown error" not in str(info.value)


async def test_stop_closes_clients_and_then_flushes(serve: Serve, client: Connect) -> None:
    """A service that stops closes everybody with 1001, and then flushes the application."""
    running = await serve()
    clients = [await client(running) for _ in range(3)]
    await running.stop()
    for connected in clients:
        with pytest.raises(ConnectionClosed) as info:
            await connected.recv()
        assert info.value.rcvd is not None
        assert info.value.rcvd.code == 1001
    assert running.app.calls[-1] == ("stop", -1)
    assert running.app.calls.count(("stop", -1)) == 1


async def test_stop_without_clients_is_immediate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody connected, there is nothing to wait for."""
    monkeypatch.setattr(service, "DRAIN_TIMEOUT", 10 * TIMEOUT)
    running = await serve()
    async with asyncio.timeout(TIMEOUT):
        await running.stop()


async def test_stop_ends_listening(serve: Serve) -> None:
    """When `stop` returns, nobody can connect any more."""
    running = await serve()
    await running.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port)).close()


async def test_stop_cuts_clients_after_the_drain_timeout(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that do nothing, before or after their handshake, are cut after DRAIN_TIMEOUT."""
    monkeypatch.setattr(service, "DRAIN_TIMEOUT", 0.1)
    running = await serve()
    clients = await raw(running), await raw(running, handshake=False)
    await request(running.port, "GET /health")  # so that the service knows both
    async with asyncio.timeout(TIMEOUT):
        await running.stop()
    assert running.app.history(0) == ["open", "close"]
    for client in clients:
        await client.rest()


class Loading(Echo):
    """An application that never finishes taking a connection."""

    async def open(self, connection: Any) -> None:
        """Wait for ever."""
        self._note("open", 0)
        try:
            await asyncio.Event().wait()
        finally:
            self._note("open ended", 0)


async def test_application_stops_after_the_last_connection(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application is stopped when nothing of a connection is under way any more."""
    monkeypatch.setattr(service, "DRAIN_TIMEOUT", 0.1)
    running = await serve(Loading)
    await raw(running)
    await running.app.until(lambda: bool(running.app.calls))
    await running.stop()
    assert [name for name, _ in running.app.calls] == ["open", "open ended", "stop"]


# The process


def wait_for_port(process: subprocess.Popen[str]) -> int:
    """Return the port that a process listens on, once it does."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "listening":
            return int(event["port"])
    pytest.fail("the process has ended")


def upgraded(port: int) -> socket.socket:
    """Return a connection after its handshake; the path is one that the server serves."""
    for path in ("/", "/room"):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port))
        sock.sendall(f"GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
        if sock.recv(4096).startswith(b"HTTP/1.1 101"):
            return sock
        sock.close()
    pytest.fail("no path is served")


def not_reading(port: int) -> socket.socket:
    """Connect, and leave as many pongs unread as the server lets wait."""
    sock = upgraded(port)
    sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        for _ in range(200):
            sock.sendall(masked(PING, bytes(125)) * 200)
    return sock


def half_done(port: int) -> socket.socket:
    """Connect, and stop in the middle of the handshake."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b"GET / HTTP/1.1\r\nHost:")
    return sock


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the server as its own process, with the given variables and those that a test needs."""
    processes: list[subprocess.Popen[str]] = []
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and by children as well

    def start_(open_files: int = 0, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", PACKAGE]
        if open_files:
            command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **variables}
        processes.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start_
    signal.signal(signal.SIGHUP, former)
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_process_exits_with_0_on_a_signal(start: Start, number: signal.Signals) -> None:
    """A process that is told to end with clients connected tells them, and exits with 0 and a clean stderr."""
    process = start()
    port = wait_for_port(process)
    with upgraded(port) as sock:
        process.send_signal(number)
        assert sock.recv(2)[0] == 0x80 | CLOSE
        assert sock.recv(100)[:2] == (1001).to_bytes(2, "big")
        sock.sendall(masked(CLOSE, b"\x03\xe9"))
    _, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    assert process.returncode == 0
    assert errors == ""


def test_process_under_nohup_ignores_sighup(start: Start) -> None:
    """A process started under nohup continues when its terminal is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = start()
    port = wait_for_port(process)
    process.send_signal(signal.SIGHUP)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        assert answers(sock)


def over_tls(port: int, files: Files) -> ssl.SSLSocket:
    """Return a TLS connection whose client trusts one certificate."""
    return files.client.wrap_socket(socket.create_connection(("127.0.0.1", port), TIMEOUT), server_hostname="localhost")


def logged(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Return what a process says of an event, once it does."""
    assert process.stdout is not None
    return next(said for line in process.stdout if (said := json.loads(line))["event"] == event)


def answers(sock: socket.socket) -> bool:
    """Return whether a server answers a request for a page on this connection, which ends with it."""
    sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sock.recv(4096).startswith(b"HTTP/1.1 200")


def test_process_reloads_its_certificate_on_sighup(start: Start, tmp_path: Path) -> None:
    """On SIGHUP a process loads its certificate again, and keeps the one that it has if the new one is bad."""
    old = certify(tmp_path / "tls")
    process = start(TLS_CERT=str(old.certificate), TLS_KEY=str(old.key))
    port = wait_for_port(process)
    with over_tls(port, old) as before:
        new = certify(tmp_path / "tls")
        process.send_signal(signal.SIGHUP)
        logged(process, "the certificate was reloaded")
        with over_tls(port, new) as after:
            assert answers(after)
        assert answers(before)
    new.certificate.rename(tmp_path / "away.pem")
    process.send_signal(signal.SIGHUP)
    failed = logged(process, "the certificate could not be reloaded")
    assert failed["level"] == "error"
    assert failed["error"].startswith("TLS_CERT")
    with over_tls(port, new._replace(certificate=tmp_path / "away.pem")) as still:
        assert answers(still)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("number", "clients"),
    [(signal.SIGTERM, (upgraded, not_reading, half_done)), (signal.SIGINT, (upgraded, not_reading))],
)
def test_process_ends_in_time(
    start: Start, number: signal.Signals, clients: tuple[Callable[[int], socket.socket], ...]
) -> None:
    """Clients that do not answer, do not read, or have not finished their handshake do not keep it from ending."""
    process = start()
    port = wait_for_port(process)
    with contextlib.ExitStack() as stack:
        for connect in clients:
            stack.enter_context(connect(port))
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT)  # heartbeats would end the connections after a minute
    assert process.returncode == 0
    assert errors == ""


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [("RATE_LIMIT", "fast", "a whole number"), ("PORT", "65536", "65535"), ("REQUIRE_WSS", "true", "TRUSTED_PROXIES")],
)
def test_bad_setting_is_one_line_and_exit_code_1(start: Start, name: str, value: str, accepted: str) -> None:
    """A bad value is one line on stderr with variable, value and accepted values, and exit code 1."""
    process = start(**{name: value})
    out, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    (line,) = errors.splitlines()
    assert name in line
    assert value in line
    assert accepted in line
    assert process.returncode == 1
    assert out == ""


def test_unsupported_setting_is_one_line_and_exit_code_1(start: Start) -> None:
    """A setting that this version cannot honor is one line on stderr, without a secret's value, and exit code 1."""
    process = start(AUTH_SECRET="hush")
    _, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    (line,) = errors.splitlines()
    assert "AUTH_SECRET" in line
    assert "hush" not in line
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, which tells what files a process has")
def test_crowd_leaves_files_to_the_store(start: Start) -> None:
    """With fewer files than MAX_CONNECTIONS, a crowd is answered 503 or cut, and files are left for the store."""
    process = start(open_files=256)
    port = wait_for_port(process)
    with contextlib.ExitStack() as stack:
        # All at once: on a busy machine, one after the other takes longer than a server waits for authentication.
        with ThreadPoolExecutor(20) as threads:
            for client in threads.map(upgraded, [port] * 105):
                stack.enter_context(client)
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT))
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as late:
            late.sendall(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
            assert late.recv(100).startswith(b"HTTP/1.1 503")
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as asking:
            assert answers(asking)
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= 256 - 256 // 5


def test_open_files_are_said(start: Start) -> None:
    """A line at the start says that there will be fewer connections, and why."""
    process = start(open_files=256)
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["level"] == "warning"
    assert said["event"].startswith("MAX_CONNECTIONS is 10000, but the limit of 256 open files allows 105;")


def test_too_few_files_are_one_line_and_exit_code_1(start: Start) -> None:
    """A limit with which there could be hardly any connection is one line on stderr, and exit code 1."""
    _, errors = (process := start(open_files=80)).communicate(timeout=PROCESS_TIMEOUT)
    (line,) = errors.splitlines()
    assert "80 files" in line
    assert process.returncode == 1


def test_process_port_in_use(start: Start) -> None:
    """A port that is taken is one line on stderr that names it and what to set, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(PORT=str(port))
        _, errors = process.communicate(timeout=PROCESS_TIMEOUT)
    (line,) = errors.splitlines()
    assert str(port) in line
    assert "PORT" in line
    assert process.returncode == 1


async def test_lag_of_the_event_loop_is_measured(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked event loop shows in the metrics, with about its duration."""
    monkeypatch.setattr(service, "LAG_INTERVAL", 0.01)
    lag = (await serve()).app.metrics.lag
    async with asyncio.timeout(TIMEOUT):
        while not sum(lag.counts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before = lag.total
        time.sleep(0.3)  # noqa: ASYNC251  # blocking is the point
        while lag.total < before + 0.25:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


STUCK = """
import asyncio, time
from {package}.edge import watchdog

async def main():
    watching = asyncio.create_task(watchdog.watch())
    await asyncio.sleep(0)
    print("alive", flush=True)
    {then}

watchdog.TIMEOUT = 3.0
asyncio.run(main())
"""
"""A process with a watchdog that has little patience."""


@pytest.mark.parametrize(
    ("then", "code", "said"), [("time.sleep(60)", 1, "Timeout (0:00:03)!"), ("watching.cancel()", 0, "")]
)
def test_process_whose_event_loop_is_stuck_ends(then: str, code: int, said: str) -> None:
    """A stuck event loop ends its process with 1 and says where it is stuck; one that turns ends in order."""
    command = [sys.executable, "-c", STUCK.format(package=PACKAGE, then=then)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_TIMEOUT, check=False)
    assert (done.returncode, done.stdout) == (code, "alive\n")
    assert done.stderr.startswith(said)
    assert ("in main" in done.stderr) == (code == 1)


async def test_server_has_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop and the watchdog's thread put off the end while a server runs, and it is not armed after that."""
    calls: list[str] = []
    again = asyncio.Event()
    loop = asyncio.get_running_loop()

    def arm(seconds: float, *, exit: bool) -> None:  # noqa: A002  # as faulthandler names it
        calls.append(f"{threading.current_thread().name} {exit}")
        if min(calls.count("MainThread True"), calls.count("watchdog True")) == 3:
            loop.call_soon_threadsafe(again.set)

    monkeypatch.setattr(watchdog, "INTERVAL", 0.01)
    monkeypatch.setattr(watchdog, "LEAST", 0.0)
    monkeypatch.setattr("faulthandler.dump_traceback_later", arm)
    monkeypatch.setattr("faulthandler.cancel_dump_traceback_later", lambda: calls.append("cancelled"))
    running = asyncio.create_task(service.run(service.Service(Echo(), 0)))
    async with asyncio.timeout(TIMEOUT):
        await again.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    assert calls.index("cancelled") == len(calls) - 1


def test_time_without_a_cpu_does_not_count_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog waits for 60 seconds in which the event loop could have run, on a machine with too much work too."""
    armed: list[float] = []
    now = {"monotonic": 1000.0, "waited_for_cpu": 100.0}
    for name in now:
        monkeypatch.setattr(watchdog, name, partial(now.__getitem__, name))
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **_: armed.append(seconds))
    dog = watchdog.Watchdog()
    dog.put_off()
    for monotonic, waited_for_cpu in [(1010, 100.5), (1050, 145), (1060, 145.5), (1080, 170)]:
        now.update(monotonic=monotonic, waited_for_cpu=waited_for_cpu)
        dog.look()
    assert armed == [60, 60 + 45 - 50, 60 + 70 - 80]


@pytest.mark.parametrize(("text", "seconds"), [("7 2500000000 3\n", 2.5), (None, 0.0)], ids=["Linux", "others"])
def test_time_without_a_cpu_is_read_from_linux(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, seconds: float
) -> None:
    """The time without a CPU is the second number of the scheduler's file, and 0 on a system without the file."""
    if text:
        (tmp_path / "schedstat").write_text(text)
    monkeypatch.setattr(watchdog, "SCHEDULED", tmp_path / "schedstat")
    assert watchdog.waited_for_cpu() == seconds
