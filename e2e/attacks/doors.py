"""The doors: how a server can be set up to let people in, and what honest ones need for it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from . import github_api, issuer
from .certificate import certify


class Door(NamedTuple):
    """One way to be let in.

    Attributes:
        settings: of the server.
        token: makes what proves a user; None where nobody asks for that.
        tls: what a client has to know to speak TLS; None where nobody does.
    """

    settings: Mapping[str, str] = MappingProxyType({})
    token: Callable[[str], str] | None = None
    tls: ssl.SSLContext | None = None


OPEN = Door()


@asynccontextmanager
async def stand(name: str, folder: Path) -> AsyncIterator[Door]:
    """Prepare the door of a name, with what it takes in a folder, for the time of the block."""
    if name == "jwt":
        yield Door(issuer.SETTINGS, issuer.signed)
    elif name == "tls":
        settings = certify(folder)
        yield Door({**settings, "REQUIRE_WSS": "true"}, None, ssl.create_default_context(cafile=settings["TLS_CERT"]))
    elif name == "github":
        async with github_api.github_api() as url:
            yield Door({"AUTH": "github", "GITHUB_API_URL": url}, github_api.token)
    else:
        yield OPEN
