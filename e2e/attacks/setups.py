"""Setups of a server with or without authentication and TLS, and what honest clients need for each."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from . import github_api, token_issuer
from .certificate import certify


class Setup(NamedTuple):
    """One setup of a server.

    Attributes:
        settings: the settings of the server.
        token: makes the token of a user; None without authentication.
        tls: the TLS context of a client; None without TLS.
    """

    settings: Mapping[str, str] = MappingProxyType({})
    token: Callable[[str], str] | None = None
    tls: ssl.SSLContext | None = None


OPEN = Setup()


@asynccontextmanager
async def prepare_setup(name: str, folder: Path) -> AsyncIterator[Setup]:
    """Prepare the setup with a name, with its files in a folder, until the end of the block."""
    if name == "jwt":
        yield Setup(token_issuer.SETTINGS, token_issuer.signed)
    elif name == "tls":
        settings = certify(folder)
        yield Setup({**settings, "REQUIRE_WSS": "true"}, None, ssl.create_default_context(cafile=settings["TLS_CERT"]))
    elif name == "github":
        async with github_api.github_api() as url:
            yield Setup({"AUTH": "github", "GITHUB_API_URL": url}, github_api.token)
    else:
        yield OPEN
