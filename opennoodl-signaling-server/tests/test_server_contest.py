"""Two connections with one identity, over sockets: the one that is there stays, one that is not is replaced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.rooms import model

from .conftest import Enter, EnterRaw
from .edge.harness import CLOSE, PING, PONG, TEXT, Raw
from .editor import news

JOIN = {"type": "join", "room": "r", "peerId": "x", "userId": "X"}


@pytest.fixture
def _soon(contest_timeout: Callable[[float], None]) -> None:
    """Give the holder of a contested peer id little time."""
    contest_timeout(0.1)


async def entered(enter_raw: EnterRaw, server: Service) -> Raw:
    """Return a client that answers nothing and that holds the peer id: it has joined before anybody else comes."""
    holder = await enter_raw(server, JOIN)
    assert await holder.frame_of(TEXT) is not None
    return holder


async def test_holder_has_two_seconds_to_answer() -> None:
    """A holder has 2 seconds to answer."""
    assert model.CONTEST_TIMEOUT == 2.0


async def test_another_users_peer_id_is_taken(server: Service, enter: Enter) -> None:
    """The peer id of another user is taken, and nothing happens to its holder."""
    holder, newcomer = await enter(server), await enter(server)
    await holder.join("r", "x", "X")
    assert await newcomer.refused("join", room="r", peerId="x", userId="Y", requestId="q") == ("peer-id-taken", "q")
    await holder.quiet()
    await newcomer.join("r", "y", "Y")
    assert await holder.expect("peer-joined") == news("y", "Y")


async def test_living_holder_keeps_its_place(server: Service, enter: Enter) -> None:
    """A holder that answers the ping stays; the newcomer is refused; the others see nothing."""
    holder, newcomer, other = [await enter(server) for _ in range(3)]
    await holder.join("r", "x", "X")
    await other.join("r", "o")
    await holder.expect("peer-joined")
    assert await newcomer.refused("join", **_fields(JOIN)) == "peer-id-taken"
    await holder.quiet()
    await other.send("signal", to="x", signal=1)
    assert (await holder.expect("signal"))["from"] == "o"
    await other.quiet()


async def test_refused_newcomer_gets_its_request_id(server: Service, enter: Enter) -> None:
    """This refusal, like any other, echoes the `requestId` of the message that caused it."""
    holder, newcomer = await enter(server), await enter(server)
    await holder.join("r", "x", "X")
    assert await newcomer.refused("join", **_fields(JOIN), requestId=5) == ("peer-id-taken", 5)


@pytest.mark.usefixtures("_soon")
async def test_dead_holder_is_closed_with_4409(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A holder that does not answer is closed with 4409; the newcomer takes its place, and the others call it anew."""
    other = await enter(server)
    await other.join("r", "o")
    holder = await enter_raw(server, JOIN)
    await other.expect("peer-joined")
    newcomer = await enter(server)
    assert (await newcomer.join("r", "x", "X"))["peers"] == [news("o")]
    closed = await holder.frame_of(CLOSE)
    assert closed is not None
    assert closed.code == 4409
    holder.sock.close()
    assert await other.expect("peer-left") == {"peerId": "x"}
    assert await other.expect("peer-joined") == news("x", "X")
    await other.send("signal", to="x", signal=1)
    assert (await newcomer.expect("signal"))["from"] == "o"
    await other.quiet()


async def test_dead_while_others_talk(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """While it is found out who is alive, everybody else's traffic goes on, also that of the newcomer."""
    holder = await entered(enter_raw, server)
    newcomer, other = await enter(server), await enter(server)
    await newcomer.send(**_message(JOIN))
    await other.join("r", "o")
    await newcomer.quiet()
    holder.reset()
    await newcomer.expect("joined")
    await other.expect("peer-left")
    await other.expect("peer-joined")
    await other.quiet()


async def test_any_timely_pong_keeps_the_place(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A holder is alive that answers the ping with its pong, at whatever time within the limit."""
    holder = await entered(enter_raw, server)
    newcomer = await enter(server)
    await newcomer.send(**_message(JOIN))
    ping = await holder.frame_of(PING)
    assert ping is not None
    await newcomer.quiet()
    await holder.send_frame(PONG, ping.payload)
    assert (await newcomer.expect("error"))["code"] == "peer-id-taken"


async def test_vanished_holder_is_not_waited_for(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A holder that turns out to be gone while it is asked need not be waited for."""
    holder = await entered(enter_raw, server)
    newcomer = await enter(server)
    await newcomer.send(**_message(JOIN))
    await holder.frame_of(PING)
    holder.reset()
    await newcomer.expect("joined")


async def test_vanished_newcomer_leaves_no_trace(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A newcomer that is gone before its case is decided leaves no trace."""
    other = await enter(server)
    await other.join("r", "o")
    holder = await enter_raw(server, JOIN)
    await other.expect("peer-joined")
    newcomer = await enter_raw(server, JOIN)
    ping = await holder.frame_of(PING)
    assert ping is not None
    newcomer.reset()
    await other.quiet()
    await holder.send_frame(PONG, ping.payload)
    await other.send("signal", to="x", signal=1)
    await other.quiet()


@pytest.mark.usefixtures("_soon")
async def test_newcomer_that_leaves_does_not_join_later(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A newcomer that leaves before its case is decided does not find itself in the room after all."""
    await entered(enter_raw, server)
    newcomer, late = await enter(server), await enter(server)
    await newcomer.send(**_message(JOIN))
    await newcomer.send("leave", room="r")
    assert await late.ask("join", room="r", peerId="x", userId="X") == {
        "type": "joined",
        "room": "r",
        "peerId": "x",
        "peers": [],
    }
    await newcomer.quiet()


async def test_client_may_reconnect_after_a_close(server: Service, enter: Enter) -> None:
    """A client that closed its connection properly may come back at once."""
    first = await enter(server)
    await first.join("r", "x", "X")
    await first.socket.close()
    assert (await (await enter(server)).join("r", "x", "X"))["peers"] == []


def _message(message: dict[str, str]) -> dict[str, str]:
    """Return a message as the arguments of `send`."""
    return {"kind": message["type"], **_fields(message)}


def _fields(message: dict[str, str]) -> dict[str, str]:
    """Return a message's fields without its type."""
    return {name: value for name, value in message.items() if name != "type"}
