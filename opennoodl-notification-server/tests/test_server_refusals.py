"""A device that does not get in, or cannot send, leaves a line in the log with the reason, and a count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time
from typing import Any

import pytest
import structlog
from opennoodl_notification import server as module
from opennoodl_notification.edge.refusals import EVENT
from opennoodl_notification.edge.service import Service
from opennoodl_notification.follower import FORGOTTEN

from .conftest import Device, Serve
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .harness import Gate

TOKENS: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "auth_audience": "opennoodl"}

Act = Callable[[Service, Device, Gate], Awaitable[None]]


def token(**claims: Any) -> str:
    """Return a token of this server."""
    return signed(**{"aud": "opennoodl", **claims})


def shows(user: str = "ann", **fields: Any) -> Act:
    """Return what authenticates, in vain."""

    async def act(service: Service, device: Device, gate: Gate) -> None:
        code = await (await device(service)).refused("authenticate", userId=user, **fields)
        assert code == "unauthorized"

    return act


async def waits(service: Service, device: Device, gate: Gate) -> None:
    """Do not authenticate."""
    await (await device(service)).ws.wait_closed()


async def one_too_many(service: Service, device: Device, gate: Gate) -> None:
    """Authenticate on a second device."""
    await device(service, "u")
    assert await (await device(service)).refused("authenticate", userId="u") == "too-many-connections"


async def much(service: Service, device: Device, gate: Gate) -> None:
    """Send more than is kept."""
    sender = await device(service, "s")
    while (await sender.ask("invite", targetUserId="u", data="SECRET" * 300))["type"] != "error":
        pass


async def full_disk(service: Service, device: Device, gate: Gate) -> None:
    """Send where the disk is full."""
    sender = await device(service, "s")
    gate.failure = OSError("no space left")
    assert await sender.refused("invite", targetUserId="u", data="SECRET") == "storage-unavailable"


async def forgotten(service: Service, device: Device, gate: Gate) -> None:
    """Be a device that the follower cannot bring up to date."""
    client = await device(service, "u")
    assert isinstance(service.app, module.NotificationServer)
    for connected in service.app.devices.of("u"):
        connected.disconnect(1013, FORGOTTEN, "catch-up")
    await client.ws.wait_closed()


SITUATIONS: dict[str, tuple[str, Act, dict[str, Any]]] = {
    "no token": ("token-missing", shows(), TOKENS),
    "a token that is none": ("token-invalid", shows(token="SECRET"), TOKENS),
    "an expired token": ("token-expired", shows(token=token(exp=1)), TOKENS),
    "a token of tomorrow": ("token-not-yet-valid", shows(token=token(nbf=time() + 86_400)), TOKENS),
    "a token of another issuer": ("token-signature", shows(token=signed(OTHER_SECRET)), TOKENS),
    "a token for another application": ("token-audience", shows(token=token(aud="SECRET")), TOKENS),
    "a token of another user": ("token-user", shows("bob", token=token()), TOKENS),
    "no authentication": ("authentication-timeout", waits, {}),
    "many devices": ("too-many-connections", one_too_many, {"max_connections_per_user": 1}),
    "a full store": ("storage-full", much, {"max_stored_size": 10_000}),
    "a full disk": ("storage-unavailable", full_disk, {}),
    "a device that has missed too much": ("catch-up", forgotten, {}),
}


@pytest.mark.parametrize("name", SITUATIONS)
async def test_each_situation_has_a_log_line_and_a_metric(
    serve: Serve, device: Device, gate: Gate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each situation in which a device does not get in has its line, without what it sent, and its metric."""
    code, act, settings = SITUATIONS[name]
    if code == "authentication-timeout":
        monkeypatch.setattr(module, "AUTHENTICATION_TIMEOUT", 0.01)
    service = await serve(**settings)
    with structlog.testing.capture_logs() as logged:
        await act(service, device, gate)
    line = next(line for line in logged if line["event"] == EVENT)
    assert (line["log_level"], line["code"]) == ("info", code)
    assert (line["reason"], line["address"]) == (service.app.refusals.reasons[code], "127.0.0.1")
    assert isinstance(line["connection"], int)
    assert "SECRET" not in repr([line for line in logged if line["log_level"] != "debug"])
    assert f'opennoodl_refusals_total{{code="{code}"}} 1.0' in service.app.metrics.text().decode()


def test_every_own_code_has_a_situation() -> None:
    """No code that only this server has is without a test."""
    assert {code for code, _, _ in SITUATIONS.values()} >= module.REFUSALS.keys()
