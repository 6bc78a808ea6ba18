"""A client of a JSON server proves its user with its connection or in a message, in time and in a few attempts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .conftest import Serve
from .harness import Echo, authenticator, credential, errors, json_application, messages, metrics
from .issuer import OTHER_SECRET, SECRET, Loopback, signed

Message: Any = messages.Message
JsonApplication: Any = json_application.JsonApplication
JsonHandler: Any = json_application.JsonHandler
BadMessage: Any = errors.BadMessage
Come = Callable[..., Awaitable[ClientConnection]]


class Claim(Message, tag="claim", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Says who its sender is."""

    user: str
    token: str | None = None


class Ask(Message, tag="ask", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Asks who its sender is known to be."""


class DoormanHandler(JsonHandler):  # type: ignore[misc]  # see Echo
    """Says whom it knows a client to be."""

    def dispatch(self, incoming: Any, message: bytes) -> None:
        """Check a claim, or say who a client is."""
        if isinstance(incoming, Claim):
            self.connection.work(partial(self._claim, incoming, message))
        else:
            identity = self.connection.identity
            self.app.send((self.connection,), Claim(identity.user if identity is not None else ""))

    async def _claim(self, claim: Claim, message: bytes) -> None:
        try:
            self.connection.set_identity(await self.app.prove(self.connection, claim.token, claim.user))
        except BadMessage as bad:
            self.app.refuse(self.connection, bad)
        else:
            self.dispatch(Ask(), message)

    def close(self, *, lost: bool) -> None:
        """Do nothing."""


class Doorman(JsonApplication, Echo):  # type: ignore[misc]  # see Echo
    """Says whom it knows a client to be."""

    decode = messages.Decoder(Claim | Ask)
    labels = metrics.Labels(
        received=decode.names.values(), sent=("claim", "error"), errors=("unauthorized", "auth-unavailable")
    )

    def handler(self, connection: Any) -> Any:
        """Return a doorman's handler."""
        return DoormanHandler(self, connection)


@pytest.fixture
async def running(serve: Serve) -> Any:
    """Start a service that lets in who has a token."""
    return await serve(Doorman, auth="jwt", auth_secret=SECRET)


@pytest.fixture
async def come() -> AsyncIterator[Come]:
    """Connect, with a query."""
    clients: list[ClientConnection] = []

    async def come_(running: Any, query: str = "") -> ClientConnection:
        clients.append(await connect(f"ws://127.0.0.1:{running.port}/{query}"))
        return clients[-1]

    yield come_
    for client in clients:
        await client.close()


async def ask(client: ClientConnection, kind: str, **fields: Any) -> str:
    """Send a message; return the user or the error's code in the answer."""
    await client.send(json.dumps({"type": kind, **fields}))
    answer = json.loads(await client.recv())
    return str(answer["user"] if answer["type"] == "claim" else answer["code"])


async def test_token_in_the_query_authenticates(running: Any, come: Come) -> None:
    """A token in the query authenticates from the start."""
    assert await ask(await come(running, f"?token={signed()}"), "ask") == "ann"


async def test_token_in_a_subprotocol_authenticates(running: Any) -> None:
    """So does one in a subprotocol, which a browser can send and which is in no URL; another one is answered."""
    offered = [Subprotocol("yjs"), Subprotocol(credential.TOKEN_PROTOCOL + signed())]
    async with connect(f"ws://127.0.0.1:{running.port}/", subprotocols=offered) as client:
        assert client.subprotocol == "yjs"
        assert await ask(client, "ask") == "ann"


async def test_token_in_a_message_authenticates(running: Any, come: Come) -> None:
    """So does one in a message; without one before, a client is nobody."""
    client = await come(running)
    assert await ask(client, "ask") == ""
    assert await ask(client, "claim", user="ann") == "unauthorized"
    assert await ask(client, "claim", user="ann", token=signed()) == "ann"
    assert await ask(client, "claim", user="ann") == "ann"


async def test_wrong_with_the_connection(running: Any, come: Come) -> None:
    """A wrong one is answered, and a right one may follow."""
    client = await come(running, f"?token={signed(OTHER_SECRET)}")
    assert json.loads(await client.recv())["code"] == "unauthorized"
    assert await ask(client, "ask") == ""
    assert await ask(client, "claim", user="ann", token=signed()) == "ann"


async def test_token_of_another_user_is_refused(running: Any, come: Come) -> None:
    """A token proves its own user; a connection stays one user's."""
    client = await come(running)
    assert await ask(client, "claim", user="bob", token=signed()) == "unauthorized"
    assert await ask(client, "claim", user="ann", token=signed()) == "ann"
    assert await ask(client, "claim", user="bob", token=signed(sub="bob")) == "unauthorized"
    assert await ask(client, "ask") == "ann"


async def test_client_without_a_proof_is_closed_in_time(
    running: Any, come: Come, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without a valid token in time is closed with 1008, however busy; a proven one is not."""
    monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 0.1)
    proven = await come(running, f"?token={signed()}")
    client = await come(running)
    with suppress(ConnectionClosed):
        for _ in range(100_000):
            await ask(client, "ask")
    assert client.close_code == 1008
    assert await ask(proven, "ask") == "ann"


async def test_five_rejected_tokens_close_the_connection(running: Any, come: Come) -> None:
    """Five tokens that prove nothing end a connection, also a proven one's."""
    client = await come(running, f"?token={signed()}")
    for _ in range(authenticator.ATTEMPTS - 1):
        assert await ask(client, "claim", user="ann", token="x") == "unauthorized"
    await client.send(json.dumps({"type": "claim", "user": "ann", "token": "x"}))
    await client.wait_closed()
    assert client.close_code == 1008


async def test_outage_of_the_issuer_lets_the_client_retry(serve: Serve, come: Come) -> None:
    """During an outage of the issuer, a client is told so and may try again."""
    api = Loopback()
    await api.start()
    api.answer = (503, {})
    running = await serve(Doorman, auth="github", github_api_url=api.url)
    client = await come(running)
    assert await ask(client, "claim", user="ann", token="gho_abc") == "auth-unavailable"
    api.answer = (200, {"login": "ann"})
    assert await ask(client, "claim", user="ann", token="gho_def") == "ann"
    await api.stop()


async def test_token_is_ignored_without_authentication(
    serve: Serve, come: Come, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without authentication, a token is not looked at, and nobody is hurried."""
    monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 0.0)
    running = await serve(Doorman)
    client = await come(running, "?token=x")
    for _ in range(3):
        assert await ask(client, "ask") == ""
