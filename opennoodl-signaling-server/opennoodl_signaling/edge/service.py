"""The service: one server's life from start to drain."""

import asyncio
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count

import structlog
from websockets.asyncio.server import Server, serve

from .admission.listener import Listener
from .admission.listening_socket import EVERYWHERE, listen_everywhere, stop_accepting
from .admission.pending import Pending
from .admission.tls import Certificate, Tls
from .application import Application
from .errors import StartError
from .http.connection import HttpConnection
from .http.dispatch import Http
from .http.request import HttpRequest
from .logs import configure
from .open_files import fit, raise_limit, spare
from .settings import S, SettingError, load
from .watchdog import watch
from .websocket.connection import Connection, WriteBatch
from .websocket.lifecycle import GOING_AWAY, Lifecycle
from .websocket.protocol import EdgeProtocol

OPEN_TIMEOUT = 10.0
"""Seconds that a client has for its first bytes after connecting, and for its handshake after them."""
DRAIN_TIMEOUT = 4.0
"""Seconds that clients have to leave; with the flush after it, under Fly's default of 5 to exit."""

LAG_INTERVAL = 1.0
"""Seconds between two measurements of the event loop's lag."""

BACKLOG = 4096
"""Connections that may wait to be accepted: after a restart, everybody comes back within seconds."""

LOGGER = logging.getLogger("websockets.server")

log = structlog.get_logger()


class Service:
    """Listens, keeps the connections alive, and drains.

    Args:
        app: what is served.
        port: to listen on; 0 takes any free one.

    Raises:
        SettingError: a setting of the door is wrong.
    """

    def __init__(self, app: Application, port: int) -> None:
        self.app = app
        self.http = Http(app)
        self._cors = self.http.origins.headers(())
        self.port = port
        self._certificate = Certificate(app.settings)
        app.certificate_end = self._certificate.end
        most = app.settings.max_connections
        self._backlog = min(BACKLOG, spare(app.settings))
        self._pending = Pending(min(most, spare(app.settings)))
        self.connections = app.registry
        self._listener = Listener(self._protocol, OPEN_TIMEOUT, self._pending, app.refusals)
        self._numbers = count(1)
        self._write_batch = WriteBatch()
        self._lifecycle = Lifecycle(app)
        self._server: Server | None = None
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the application and listen.

        Raises:
            StartError: the application cannot start, or the address cannot be listened on.
        """
        await self.app.start()
        settings = self.app.settings
        # There is a WebSocket only after its handshake, so there is no timeout for that.
        self._server = serve(self._lifecycle.handle, open_timeout=None, logger=LOGGER)
        # By itself, websockets would make a connection's objects as soon as it is accepted.
        self._server.create_server = self._listen
        try:
            await self._server
        except OSError as error:
            await self.app.stop()
            taken = error.errno == errno.EADDRINUSE
            why = "it is already in use; set PORT to a free one" if taken else error.strerror
            raise StartError(f"cannot listen on {settings.host} port {self.port}: {why}") from None
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self.app.listening(self.port)
        self._background.append(asyncio.create_task(self._measure_lag()))
        if self.app.data_files is not None:
            await self.app.data_files.measure()
            self._background.append(asyncio.create_task(self.app.data_files.watch()))
        if settings.heartbeat_interval:
            self._background.append(asyncio.create_task(self._beat(settings.heartbeat_interval / 1000)))
        for warning in self.app.auth.warnings:
            log.warning(warning)
        log.info("listening", host=settings.host, port=self.port, version=self.app.version)

    async def stop(self) -> None:
        """Drain: refuse handshakes, close all connections with 1001, flush, stop listening."""
        assert self._server is not None
        log.info("draining", connections=len(self.connections))
        self.app.drain()
        for task in self._background:
            task.cancel()
        for connection in list(self.connections):
            connection.disconnect(1001, GOING_AWAY)
        await self._finish(DRAIN_TIMEOUT)
        await stop_accepting(self._server.sockets)
        self._listener.close()
        self._pending.close()
        for connection in list(self.connections):
            connection.abort()
        for task in list(self._server.handler_tasks):
            task.cancel()
        await self._finish(1.0)
        self._server.close()
        await self._server.wait_closed()
        await self.app.stop()
        await self.app.auth.close()
        self.app.refusals.summarize()
        log.info("stopped")

    def reload(self) -> None:
        """Load the certificate again, for those who come from now on; if it cannot be used, the old one stays."""
        try:
            self._certificate.load()
        except SettingError as error:
            log.error("the certificate could not be reloaded", error=str(error))
        else:
            self.app.certificate_end = self._certificate.end
            log.info("the certificate was reloaded")

    async def _finish(self, seconds: float) -> None:
        """Wait until nothing of a connection is under way any more, or for so long."""
        assert self._server is not None
        if self._server.handler_tasks:
            await asyncio.wait(self._server.handler_tasks, timeout=seconds)

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        create, host = self._listener.accept, self.app.settings.host
        if host == EVERYWHERE:
            return await loop.create_server(create, sock=listen_everywhere(self.port), backlog=self._backlog)
        return await loop.create_server(create, host, self.port, backlog=self._backlog)

    def _protocol(self) -> asyncio.Protocol:
        context, number = self._certificate.context, next(self._numbers)
        refused = partial(self.app.refusals.note, connection=number)
        create = partial(self._http_connection, number, refused)
        if context is None:
            return create()
        return Tls(
            context, create, OPEN_TIMEOUT, self._pending, self.http.addresses, limits=self.http.limits, refused=refused
        )

    def _http_connection(self, number: int, refused: Callable[..., None]) -> HttpConnection:
        protocol = EdgeProtocol(self._cors, max_size=self.app.max_message_size or None, logger=LOGGER)
        return HttpConnection(
            self.http, protocol, OPEN_TIMEOUT, self._pending, self._upgrade, number=number, refused=refused
        )

    def _upgrade(self, request: HttpRequest) -> Connection:
        assert self._server is not None
        connection = Connection(request, self._server, self.app, self.connections, self._write_batch)
        connection.when_lost(partial(self.http.release, request))
        return connection

    async def _measure_lag(self) -> None:
        """Observe how late the event loop is, for ever: everything else waits as long."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self.app.metrics.lag.observe(max(loop.time() - due, 0.0))

    async def _beat(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            for connection in list(self.connections):
                connection.heartbeat()


async def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then drain; on SIGHUP, load the certificate again, or drain if there is none."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if service.app.settings.tls_cert:
        loop.add_signal_handler(signal.SIGHUP, service.reload)
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else it is to go on without its terminal: nohup
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    await service.start()
    gc.freeze()  # what is here stays: a garbage collection, which holds everybody, need not go through it
    watching = asyncio.create_task(watch())
    await stop.wait()
    await service.stop()
    watching.cancel()
    await asyncio.wait([watching])


def main(kind: type[S], create: Callable[[S], Service]) -> None:
    """Read the settings from the environment, serve, and leave with the process's exit code.

    If the server cannot start, the reason is one line on standard error, and the exit code is 1.
    """
    try:
        settings = load(kind, os.environ)
        configure(settings.log_level, settings.log_format)
        # Otherwise each call binds a logger anew: 36 µs for a line that is not shown, more than the rest of a refusal.
        structlog.configure(cache_logger_on_first_use=True)
        settings, warning = fit(settings, raise_limit())
        if warning:
            log.warning(warning)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(create(settings)))
    except (SettingError, StartError) as error:
        sys.exit(f"{kind.__module__.partition('.')[0]}: {error}")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on this platform
        return None
    return uvloop.new_event_loop
