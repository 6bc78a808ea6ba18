"""Fixtures: a Redis server, and instances that share it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service

from ..conftest import StartServer
from .redis_server import RedisServer

Instances = Callable[..., Awaitable[list[Service]]]


@pytest.fixture
def instances(redis: RedisServer, start: StartServer) -> Instances:
    """Start some instances with the given settings."""

    async def start_(number: int = 2, **settings: Any) -> list[Service]:
        return [await start(redis_url=redis.url, **settings) for _ in range(number)]

    return start_
