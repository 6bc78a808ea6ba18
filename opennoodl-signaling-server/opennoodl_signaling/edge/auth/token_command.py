"""The command ``token``, with which an operator makes tokens for users and services."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from ..settings import EdgeSettings
from .identity import Name

DAY = 86_400
MAX_TTL = 3660 * DAY


def add_token_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``token`` to a parser."""
    token = commands.add_parser("token", help="make a token for a user, signed with AUTH_SECRET")
    token.add_argument("--user", type=_user, required=True, help="the user's id")
    token.add_argument(
        "--room", action="append", metavar="PATTERN", help="an allowed room, or a pattern with * and ?; may be repeated"
    )
    token.add_argument(
        "--access", choices=("read", "write"), default="write", help="access to these rooms (default: write)"
    )
    token.add_argument("--services", action="store_true", help="for a service: it may send `system` notifications")
    token.add_argument("--ttl", type=_seconds, default=DAY, metavar="SECONDS", help=f"lifetime (default: {DAY})")


def token(settings: EdgeSettings, asked: argparse.Namespace) -> str:
    """Return the token for the arguments of the command.

    Raises:
        SettingError: `AUTH_SECRET` is not set, or is too short.
    """
    from .jwt_tokens import mint  # loaded late, since a server without AUTH does not need PyJWT

    claims: dict[str, Any] = {"sub": asked.user}
    if asked.room:
        claims["rooms"] = asked.room
    if asked.access != "write":
        claims["access"] = asked.access
    if asked.services:
        claims["services"] = True
    return mint(settings, claims, asked.ttl)


def _user(text: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(f"a userId has 1 to 256 characters; this one has {len(text)}") from None


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_TTL:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to {MAX_TTL}")
    return int(text)
