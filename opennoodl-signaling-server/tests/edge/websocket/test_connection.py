"""A connection hands whole messages to the application, and one bad client costs one connection."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from websockets.exceptions import ConnectionClosed

from ..conftest import Connect, OpenRaw, Serve
from ..harness import (
    BINARY,
    CLOSE,
    CONT,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    Frame,
    Pause,
    connection,
    errors,
    flow_control,
    limits,
    masked,
)


async def test_text_and_binary_messages_keep_their_kind(serve: Serve, client: Connect) -> None:
    """Text and binary messages arrive as what they are."""
    connected = await client(await serve())
    for message in ("text", b"binary", "", b"", "ü€𝄞", "x" * 125, "x" * 126, "x" * 65_535, b"x" * 65_536):
        await connected.send(message)
        assert await connected.recv() == message


async def test_messages_are_handled_in_order(serve: Serve, client: Connect) -> None:
    """Messages sent at once are handled one by one and in order."""
    connected = await client(await serve())
    messages = [str(number) for number in range(500)]
    for message in messages:
        await connected.send(message)
    assert [await connected.recv() for _ in messages] == messages


async def test_fragmented_message_arrives_whole(serve: Serve, raw: OpenRaw) -> None:
    """A fragmented message arrives whole, whatever control frames come between its parts."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(TEXT, b"he", fin=False)
    await client.send_frame(PING, b"?")
    await client.send_frame(CONT, b"ll", fin=False)
    await client.send_frame(CONT, b"o")
    assert await client.frame() == Frame(PONG, b"?")
    assert await client.frame() == Frame(TEXT, b"hello")
    assert running.app.got == [b"hello"]


async def test_fragment_may_end_inside_a_character(serve: Serve, raw: OpenRaw) -> None:
    """A fragment may end in the middle of a character."""
    client = await raw(await serve())
    await client.send_frame(TEXT, b"\xe2\x82", fin=False)
    await client.send_frame(CONT, b"\xac")
    assert await client.frame() == Frame(TEXT, "€".encode())


async def test_frame_may_arrive_byte_by_byte(serve: Serve, raw: OpenRaw) -> None:
    """A frame may come in any number of packets."""
    client = await raw(await serve())
    for byte in masked(TEXT, b"slow"):
        await client.send(bytes((byte,)))
    assert await client.frame() == Frame(TEXT, b"slow")


@pytest.mark.parametrize("message", [b"\xff", b"ok \xe2\x82", b"\xed\xa0\x80"])
async def test_invalid_utf8_closes_with_1007(serve: Serve, raw: OpenRaw, message: bytes) -> None:
    """Text that is not UTF-8 closes with 1007, and the application never sees it."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(TEXT, message)
    closed = await client.frame()
    assert closed is not None
    assert closed.code == 1007
    assert running.app.got == []


async def test_binary_is_not_utf8(serve: Serve, client: Connect) -> None:
    """A binary message holds any bytes."""
    connected = await client(await serve())
    await connected.send(b"\xff\x00\xe2\x82")
    assert await connected.recv() == b"\xff\x00\xe2\x82"


@pytest.mark.parametrize("size", [65_537, 16_000_000], ids=["a little", "far more than is under way at a time"])
async def test_message_over_the_limit_closes_with_1009(serve: Serve, raw: OpenRaw, client: Connect, size: int) -> None:
    """A message over the limit closes its sender with 1009, which the sender reads in the end; others stay."""
    running = await serve()
    other = await client(running)
    big = await raw(running)
    await big.send_frame(BINARY, bytes(size))
    closed = await big.frame()
    assert closed is not None
    assert closed.code == 1009
    await other.send("still here")
    assert await other.recv() == "still here"


async def test_too_big_in_parts(serve: Serve, raw: OpenRaw) -> None:
    """The limit holds for the whole message, not for its fragments."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(BINARY, bytes(40_000), fin=False)
    await client.send_frame(CONT, bytes(40_000))
    closed = await client.frame()
    assert closed is not None
    assert closed.code == 1009
    assert running.app.got == []


async def test_message_size_of_zero_is_no_limit(serve: Serve, client: Connect) -> None:
    """A limit of 0 means that there is none."""
    running = await serve(max_message_size=0, slow_client_buffer=0)
    connected = await client(running)
    await connected.send(bytes(3_000_000))
    assert await connected.recv() == bytes(3_000_000)


async def test_failing_message_closes_its_sender_with_1011(
    serve: Serve, client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that the application fails on closes its sender alone with 1011, and is logged."""
    running = await serve()
    sender, other = await client(running), await client(running)
    await sender.send("raise")
    with pytest.raises(ConnectionClosed) as info:
        await sender.recv()
    assert info.value.rcvd is not None
    assert info.value.rcvd.code == 1011
    assert "application failed" not in info.value.rcvd.reason
    assert "RuntimeError: the application failed" in caplog.text
    await other.send("still here")
    assert await other.recv() == "still here"


async def test_application_closes_with_code_and_reason(
    serve: Serve, client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The application closes with a code and a reason, and that is no failure to log."""
    connected = await client(await serve())
    await connected.send("refuse")
    with pytest.raises(ConnectionClosed) as info:
        await connected.recv()
    assert info.value.rcvd is not None
    assert (info.value.rcvd.code, info.value.rcvd.reason) == (1008, "Refused.")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_message_before_a_close_frame_is_handled(serve: Serve, raw: OpenRaw) -> None:
    """A message in the same packet as the close frame after it is still handled."""
    running = await serve()
    client = await raw(running)
    await client.send(masked(TEXT, b"last words") + masked(CLOSE, b"\x03\xe8"))
    await client.rest()
    await running.app.closed(0)
    assert running.app.got == [b"last words"]


async def test_message_after_the_end_is_dropped(serve: Serve, raw: OpenRaw) -> None:
    """Nothing that comes after the application has ended the connection is handed to it."""
    running = await serve()
    client = await raw(running)
    await client.send(masked(TEXT, b"end") + masked(TEXT, b"too late"))
    closed = await client.frame()
    assert closed is not None
    await client.send(masked(TEXT, b"too late as well") + masked(CLOSE, closed.payload))
    await client.rest()
    assert running.app.got == [b"end"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
async def test_frame_before_the_handshakes_answer_is_400(serve: Serve, raw: OpenRaw, opcode: int) -> None:
    """A client that does not wait for the handshake's answer is answered 400, and leaves nothing behind."""
    running = await serve()
    client = await raw(running, handshake=False)
    await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode() + masked(opcode, b"early"))
    assert (await client.head()).status == 400
    await client.rest()
    assert (running.app.got, running.app.calls) == ([], [])
    assert running.app.metrics.open_connections == 0
    assert +running.app.refusals.counts == Counter({"invalid": 1})


async def test_message_right_after_the_handshake_is_handled(serve: Serve, raw: OpenRaw) -> None:
    """A message that comes as soon as the handshake's answer has gone out is handled."""
    running = await serve()
    for number in range(20):
        client = await raw(running)
        await client.send_frame(TEXT, b"first")
        assert await client.frame() == Frame(TEXT, b"first"), number


async def test_messages_wait_for_open(serve: Serve, client: Connect) -> None:
    """Messages wait until the application has taken the connection; none is lost."""
    running = await serve()
    running.app.open_waits = gate = asyncio.Event()
    early = await client(running)
    await early.send("early")
    await running.app.until(lambda: running.app.calls == [("open", 0)])
    running.app.open_waits = None
    other = await client(running)
    await other.send("marker")
    assert await other.recv() == "marker"  # so the server has had the time to read what came before it
    gate.set()
    async with asyncio.timeout(TIMEOUT):
        assert await early.recv() == "early"


async def test_reading_resumes_after_the_last_pause(serve: Serve, raw: OpenRaw) -> None:
    """A client that is not read from for several reasons is read from again when the last of them is gone."""
    running = await serve()
    client = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    connected = running.app.connections[0]
    connected.pause_reading(Pause.STORAGE)
    connected.pause_reading(Pause.STORAGE)
    connected.pause_reading(flow_control.EdgePause.WORK)
    connected.resume_reading(Pause.STORAGE)
    connected.resume_reading(flow_control.EdgePause.RATE)
    assert not connected.transport.is_reading()
    await client.send_frame(TEXT, b"waits")
    connected.resume_reading(flow_control.EdgePause.WORK)
    assert await client.frame() == Frame(TEXT, b"waits")


async def test_hold_is_one_reason(serve: Serve, raw: OpenRaw) -> None:
    """When the time is over for which a client is not read from, it is not if there is another reason."""
    running = await serve()
    client = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    connected = running.app.connections[0]
    connected.pause_reading(Pause.STORAGE)
    connected.pause_reading_for(0)
    await client.send_frame(TEXT, b"waits")
    other = await raw(running)
    await other.send_frame(TEXT, b"meanwhile")
    assert await other.frame() == Frame(TEXT, b"meanwhile")
    assert not connected.transport.is_reading()
    connected.resume_reading(Pause.STORAGE)
    assert await client.frame() == Frame(TEXT, b"waits")


@pytest.mark.parametrize("frame", [masked(PING, b"x"), masked(TEXT, b"x", fin=False) + masked(CONT)])
async def test_control_frames_have_a_rate(serve: Serve, raw: OpenRaw, client: Connect, frame: bytes) -> None:
    """Pings, and frames that are parts of messages, count as messages; over the rate, no more is read for a while."""
    running = await serve(rate_limit=3)
    flood = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    reads = running.app.connections[0].transport.is_reading
    await flood.send(frame * 10)
    for _ in range(10):
        assert await flood.frame() is not None
    assert reads()
    await flood.send(frame * 21)
    for _ in range(21):
        assert await flood.frame() is not None
    assert not reads()
    assert running.app.metrics.rate_limited["messages"] > 0
    other = await client(running)
    await other.send("as before")
    assert await other.recv() == "as before"


async def test_others_are_read_between_many_messages(serve: Serve, raw: OpenRaw) -> None:
    """Of very many messages that come in one read, some are handled before other clients are read, the rest later."""
    running = await serve()
    await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    sent = [str(number).encode() for number in range(3 * connection.MESSAGES_OF_A_TURN + 1)]
    connected = running.app.connections[0]
    connected.data_received(b"".join(masked(TEXT, message) for message in sent))
    assert running.app.got == sent[: connection.MESSAGES_OF_A_TURN]
    assert connected.read_pauses == {flow_control.EdgePause.TURN}
    await running.app.until(lambda: len(running.app.got) == len(sent))
    assert running.app.got == sent
    assert not connected.read_pauses


@pytest.mark.parametrize("frame", [masked(PONG), masked(TEXT, b"x", fin=False) + masked(CONT)])
async def test_many_in_one_read(serve: Serve, raw: OpenRaw, client: Connect, frame: bytes) -> None:
    """Of small frames that come in one read, those over the rate wait, so that nobody else has to."""
    running = await serve(rate_limit=1)
    flood = await raw(running)
    await flood.send(frame * 20_000)
    other = await client(running)
    await other.send("at once")
    assert await other.recv() == "at once"
    assert 0 < running.app.metrics.rate_limited["messages"] < 2000


@pytest.mark.parametrize("frame", [masked(PING), masked(TEXT, b"x", fin=False) + masked(CONT)])
async def test_frames_without_an_end(serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    """A client that continues with pings or fragments over the rate is closed with 1008."""
    monkeypatch.setattr(connection, "PATIENCE", 5)
    running = await serve(rate_limit=1)
    flood = await raw(running)
    await flood.send(frame * 100)
    while (came := await flood.frame()) is not None and came.opcode != CLOSE:
        pass
    assert came is not None
    assert came.code == 1008


async def test_delayed_messages_are_handled_in_order(serve: Serve, raw: OpenRaw) -> None:
    """Delayed messages are handled later, in their order."""
    running = await serve(rate_limit=1000)
    flood = await raw(running)
    parts = b"".join(masked(TEXT, b"x", fin=False) + masked(CONT, b"%d" % number) for number in range(3500))
    await flood.send(parts)
    for number in range(3500):
        assert await flood.frame() == Frame(TEXT, b"x%d" % number)


async def test_paused_is_not_silent(serve: Serve, raw: OpenRaw) -> None:
    """A client that is not read from cannot be heard: it stays, and has a whole interval to answer afterwards."""
    running = await serve(heartbeat_interval=0)
    await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    connected = running.app.connections[0]
    connected.pause_reading(Pause.STORAGE)
    for _ in range(3):
        connected.heartbeat()
    connected.resume_reading(Pause.STORAGE)
    connected.heartbeat()
    assert not connected.transport.is_closing()
    connected.heartbeat()
    assert connected.transport.is_closing()


async def test_unanswered_pings_have_a_rate(serve: Serve, raw: OpenRaw) -> None:
    """Pings count also while they are not answered, as those of a client that does not read."""
    running = await serve(rate_limit=1)
    flood = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    connected = running.app.connections[0]
    connected.protocol.answer_pings(False)
    await flood.send(masked(PING) * 11)
    other = await raw(running)  # so the server has had the time to read what came before it
    await other.send_frame(TEXT, b"x")
    await other.frame()
    assert not connected.transport.is_reading()


async def test_open_may_refuse_a_connection(serve: Serve, client: Connect) -> None:
    """The application may refuse a new connection with a code and a reason."""
    running = await serve()
    running.app.open_fails = errors.CloseConnection(1013, "Come back later.")
    connected = await client(running)
    with pytest.raises(ConnectionClosed) as info:
        await connected.recv()
    assert info.value.rcvd is not None
    assert (info.value.rcvd.code, info.value.rcvd.reason) == (1013, "Come back later.")


async def test_failing_open_closes_with_1011(serve: Serve, client: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that the application fails to take is closed with 1011, logged, and not kept."""
    running = await serve()
    running.app.open_fails = RuntimeError("cannot open")
    connected = await client(running)
    with pytest.raises(ConnectionClosed) as info:
        await connected.recv()
    assert info.value.rcvd is not None
    assert info.value.rcvd.code == 1011
    await connected.wait_closed()
    await running.stop()
    assert "RuntimeError: cannot open" in caplog.text
    assert not running.connections


async def test_client_that_answers_a_ping_is_alive(serve: Serve, raw: OpenRaw) -> None:
    """A client that answers a ping in time is alive; one that does not is not."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(TEXT, b"here")
    await client.frame()
    asked = asyncio.create_task(running.app.connections[0].is_alive(5))
    ping = await client.frame()
    assert ping is not None
    await client.send_frame(PONG, ping.payload)
    assert await asked
    assert not await running.app.connections[0].is_alive(0.01)


async def test_concurrent_probes_share_one_ping(serve: Serve, raw: OpenRaw) -> None:
    """However many ask, a client has one ping to answer; to answer costs it nothing of its rate, as other pongs do."""
    running = await serve(rate_limit=10)
    client = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    here = running.app.connections[0]
    saved_up = 10 * limits.BURST_SECONDS
    for _ in range(saved_up + 1):
        asked = [asyncio.create_task(here.is_alive(5)) for _ in range(3)]
        ping = await client.frame()
        assert ping is not None
        await client.send_frame(PONG, ping.payload)
        assert await asyncio.gather(*asked) == [True] * 3
    assert +running.app.metrics.rate_limited == {}
    await client.send(masked(PONG, ping.payload) * (saved_up + 1) + masked(TEXT, b"x"))
    assert await client.frame() == Frame(TEXT, b"x")
    assert running.app.metrics.rate_limited["messages"] > 0


async def test_lost_does_not_answer(serve: Serve, raw: OpenRaw) -> None:
    """A client that vanishes while it is asked is not alive, and the asker need not wait."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(TEXT, b"here")
    await client.frame()
    asked = asyncio.create_task(running.app.connections[0].is_alive(60))
    await client.frame()
    client.reset()
    async with asyncio.timeout(30):
        assert not await asked
