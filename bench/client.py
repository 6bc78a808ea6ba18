"""The clients: C-framed ones, since plain Python would be slower than what it measures."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .protocols import frame
from .servers import Server
from .updates import END, ENDS

WRITE_BUFFER = 65_536
"""Bytes that wait in a client before it stops to write: what its transport takes."""
LARGEST_FRAME = 2**27
AT_ONCE = 50
"""Clients that connect at the same time."""
PATIENCE = 30.0
"""Seconds that a client has to get its first answer."""
CLOSE = 3
"""The first byte of every close code; no message of either dialect begins with it."""


class Client(WSListener):
    """One client of one room.

    Attributes:
        room: the room's name.
        number: this client's among those of its room; updates are known by their writer's number.
        frames: what has come since `keep` was set, and when.
        keep: whether everything that comes is kept.
        ended: the writers whose last update has come.
        ready: done when the answer to step 1 has come.
        paused: whether more than `WRITE_BUFFER` waits to be written.
        lost: whether the connection has ended.
    """

    def __init__(self, crowd: "Crowd", room: str, number: int) -> None:
        self.crowd = crowd
        self.room = room
        self.number = number
        self.keep = False
        self.frames: list[tuple[float, bytes]] = []
        self.ended: set[int] = set()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = False
        self.transport: asyncio.Transport
        self._answered = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self.transport = transport.underlying_transport
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        for message in self.crowd.server.dialect.greeting(self.room):
            self.write(frame(message))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keep what came, look for tokens of end, and nothing else: the clock runs."""
        payload = frame.get_payload_as_bytes()
        if self.keep:
            self.frames.append((perf_counter(), payload))
        if END in payload:
            self._end(payload)
        if not self._answered:
            self._answer(frame, payload)
        elif payload[:1] == b"\x03" and frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the crowd, unless it wanted that."""
        self.lost = True
        self.writable.set()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"the server hung up on a client of {self.room}"))
        self.crowd.hung_up()

    def pause_writing(self) -> None:
        """Stop to write."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Go on with writing."""
        self.writable.set()

    def write(self, frames: bytes) -> None:
        """Write one or more frames."""
        self.transport.write(frames)

    def _answer(self, frame: WSFrame, payload: bytes) -> None:
        if frame.msg_type == WSMsgType.BINARY and self.crowd.server.dialect.is_step_2(payload):
            self._answered = True
            if not self.ready.done():
                self.ready.set_result(None)

    def _end(self, payload: bytes) -> None:
        for found in ENDS.findall(payload):
            writer = int(found)
            if writer != self.number and writer not in self.ended:
                self.ended.add(writer)
                self.crowd.arrived(self)


class Crowd:
    """The clients of one measurement.

    Args:
        server: what they connect to.
        ends: tokens of end that have to come before `finished` is done, over all clients.
    """

    def __init__(self, server: Server, ends: int = 0) -> None:
        self.server = server
        self.clients: list[Client] = []
        self.finished: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.missing = ends
        self.hang_ups = 0
        self._leaving = False

    async def connect(self, rooms: Sequence[str], clients: int, *, first: int = 0, at_once: int = AT_ONCE) -> None:
        """Let `clients`, numbered from `first`, into each of `rooms`; wait until all have got their first answer."""
        gate = asyncio.Semaphore(at_once)

        async def enter(room: str, number: int) -> None:
            async with gate:
                await self.enter(room, number)

        # Somebody is the first one: stock pycrdt-websocket fails when two open a room at once.
        for numbers in (range(first, first + 1), range(first + 1, first + clients)):
            async with asyncio.TaskGroup() as tasks:
                for room in rooms:
                    for number in numbers:
                        tasks.create_task(enter(room, number))

    async def enter(self, room: str, number: int, *, keep: bool = False) -> Client:
        """Let one client in, and wait until it has got its first answer."""
        client = Client(self, room, number)
        client.keep = keep
        self.clients.append(client)
        await ws_connect(
            lambda: client,
            self.server.url(room),
            websocket_handshake_timeout=PATIENCE,
            max_frame_size=LARGEST_FRAME,
        )
        async with asyncio.timeout(PATIENCE):
            await client.ready
        return client

    def arrived(self, client: Client) -> None:
        """Count a token of end."""
        self.missing -= 1
        if self.missing == 0 and not self.finished.done():
            self.finished.set_result(perf_counter())

    def hung_up(self) -> None:
        """Count a connection that the server has ended."""
        if not self._leaving:
            self.hang_ups += 1

    async def finish(self, limit: float) -> float | None:
        """Return when the last token of end came, or None if that takes longer than `limit` seconds from now."""
        try:
            async with asyncio.timeout(limit):
                return await self.finished
        except TimeoutError:
            return None

    def leave(self) -> None:
        """Cut all connections."""
        self._leaving = True
        for client in self.clients:
            if hasattr(client, "transport"):
                client.transport.abort()
