"""The deployment under test: its addresses, its consent, its tokens and its metrics."""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

from opennoodl_sync.edge.auth.jwt_tokens import mint
from opennoodl_sync.edge.settings import EdgeSettings, SettingError, load

PORTS = {"signaling": 4444, "sync": 4445, "notification": 4446}
"""The ports of `make up` and `docker compose up`."""
PATHS = {"signaling": "/signaling", "sync": "/sync", "notification": "/notifications"}
"""The paths of `docker compose --profile tls up`."""
ROOMS = "load-test-"
"""The beginning of the names of all rooms and users."""
TIMEOUT = 10.0
SAMPLE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)
"""A line of Prometheus' text format."""


class LoadTestError(Exception):
    """The load test cannot begin; the text says why in one line."""


@dataclass(frozen=True)
class Usage:
    """The metrics of one server at one moment; counters count from its start.

    Attributes:
        seconds: of CPU time.
        memory: resident memory in MiB.
        connections: that are open.
        limited: messages over a rate limit.
        errors: that were sent to clients, and changes that could not be stored.
    """

    seconds: float
    memory: float
    connections: float
    limited: float
    errors: float


@dataclass(frozen=True)
class Endpoint:
    """One server.

    Attributes:
        name: `signaling`, `sync` or `notification`.
        url: of its WebSockets, without a slash at the end.
    """

    name: str
    url: str

    async def health(self) -> dict[str, Any]:
        """Return the answer of ``/health``.

        Raises:
            LoadTestError: there is none, or another program answers.
        """
        try:
            health = json.loads(await self._get("/health"))
            if isinstance(health, dict) and "uptime" in health:
                return health
        except OSError as error:
            raise LoadTestError(f"{self.name} does not answer at {self.url}: {error}") from None
        except ValueError:
            pass
        raise LoadTestError(f"{self.url}/health is not that of an OpenNoodl server")

    async def usage(self) -> Usage:
        """Return what ``/metrics`` says.

        Raises:
            OSError: it cannot be read, for example because a proxy refuses it.
        """
        totals: dict[str, float] = {}
        for name, value in SAMPLE.findall((await self._get("/metrics")).decode()):
            totals[name] = totals.get(name, 0.0) + float(value)
        return Usage(
            totals.get("process_cpu_seconds_total", 0.0),
            totals.get("process_resident_memory_bytes", 0.0) / 2**20,
            totals.get("opennoodl_open_connections", 0.0),
            totals.get("opennoodl_rate_limited_total", 0.0),
            sum(total for name, total in totals.items() if name.endswith("_errors_total")),
        )

    async def _get(self, path: str) -> bytes:
        address = "http" + self.url.removeprefix("ws") + path

        def get() -> bytes:
            with urlopen(address, timeout=TIMEOUT) as answer:  # noqa: S310  # the scheme is http or https
                return answer.read()  # type: ignore[no-any-return]

        try:
            return await asyncio.to_thread(get)
        except HTTPError as error:
            raise OSError(f"{path} is answered with {error.code}") from None
        except URLError as error:
            raise OSError(str(error.reason)) from None


def endpoints(target: str, addresses: Mapping[str, str | None]) -> list[Endpoint]:
    """Return the three servers.

    Args:
        target: `wss://HOST`, where they have paths, or `ws://HOST`, where they have ports.
        addresses: of servers that are elsewhere, by name.

    Raises:
        LoadTestError: an address is not usable.
    """
    found = []
    for name in PORTS:
        url = addresses.get(name) or _derived(name, target)
        parts = _split(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
            raise LoadTestError(f"{url!r} is not the address of a server, such as wss://noodl.example{PATHS[name]}")
        found.append(Endpoint(name, url.rstrip("/")))
    return found


def _derived(name: str, target: str) -> str:
    parts = _split(target)
    if parts.scheme == "wss" and parts.hostname:
        return target.rstrip("/") + PATHS[name]
    if parts.scheme == "ws" and parts.netloc and parts.path in ("", "/") and not _has_port(parts.netloc):
        return f"ws://{parts.netloc}:{PORTS[name]}"
    raise LoadTestError(
        f"TARGET is {target!r}; accepted is wss://HOST for servers at {', '.join(PATHS.values())}, or ws://HOST for "
        f"servers at the ports {', '.join(map(str, PORTS.values()))}"
    )


def _split(url: str) -> SplitResult:
    """Return the parts of a URL; none, if it has half a bracket or a port that is no number."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def _has_port(netloc: str) -> bool:
    return bool(re.search(r":\d*$", netloc))


class Tokens:
    """Tokens for the people of the load test, signed with the secret in the environment, if it has one.

    Args:
        seconds: for which they are valid.

    Raises:
        LoadTestError: the secret cannot be used.
    """

    def __init__(self, seconds: float) -> None:
        names = ("AUTH_SECRET", "AUTH_ISSUER", "AUTH_AUDIENCE")
        try:
            self._settings = load(EdgeSettings, {name: os.environ.get(name, "") for name in names})
            self._seconds = int(seconds)
            self.available = bool(self._settings.auth_secret)
            self.of("nobody")
        except SettingError as error:
            raise LoadTestError(str(error)) from None

    def of(self, user: str) -> dict[str, str]:
        """Return the headers that prove a user; none without a secret."""
        if not self.available:
            return {}
        token = mint(self._settings, {"sub": user, "rooms": [f"{ROOMS}*"]}, self._seconds)
        return {"Authorization": f"Bearer {token}"}


async def check_consent(servers: list[Endpoint], tokens: Tokens) -> None:
    """Return if the operator of every server has agreed to the load.

    A server without authentication must have `ALLOW_LOAD_TEST`. One with authentication accepts only tokens that are
    signed with its own secret, which its operator has.

    Raises:
        LoadTestError: one of the servers was not asked, or cannot be.
    """
    for server in servers:
        health = await server.health()
        if "warning" in health and not health.get("loadTest"):
            raise LoadTestError(
                f"{server.name} at {server.url} does not allow load tests. If it is yours, start it with "
                "ALLOW_LOAD_TEST=true, and without it after the test."
            )
        if "warning" not in health and not tokens.available:
            raise LoadTestError(
                f"{server.name} at {server.url} authenticates its users. If it is yours, run the load test with its "
                "AUTH_SECRET in the environment, which signs the tokens of the test."
            )
