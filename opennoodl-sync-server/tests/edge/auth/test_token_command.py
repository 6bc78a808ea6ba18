"""The command ``token`` makes the token that it is asked for."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ..harness import jwt_tokens, keys, settings, token_command
from ..issuer import SECRET


def ask(*words: str) -> argparse.Namespace:
    """Read a command line."""
    parser = argparse.ArgumentParser(prog="opennoodl")
    token_command.add_token_command(parser.add_subparsers(dest="command"))
    return parser.parse_args(["token", *words])


async def made(*words: str) -> Any:
    """Return whom the token proves."""
    token = token_command.token(settings.EdgeSettings(auth_secret=SECRET), ask(*words))
    return await jwt_tokens.JwtTokens(keys.FixedKey(SECRET.encode(), "HS256"), "", "").identify(token)


async def test_default_token_lasts_a_day_and_writes_everywhere() -> None:
    """Without more, a token is good for a day, for writing in every room, and for no service."""
    found = await made("--user", "ann")
    assert (found.user, found.rooms, found.access, found.services) == ("ann", ("*",), "write", False)


async def test_options_set_the_claims() -> None:
    """Rooms, access and services are what was asked for."""
    found = await made("--user", "ann", "--room", "a", "--room", "b-*", "--access", "read", "--services")
    assert (found.rooms, found.access, found.services) == (("a", "b-*"), "read", True)


async def test_ttl_option_sets_the_lifetime() -> None:
    """A token is good for as long as was asked for."""
    short, long = await made("--user", "a", "--ttl", "60"), await made("--user", "a")
    assert 86_000 < long.expires - short.expires < 86_401


@pytest.mark.parametrize("ttl", ["0", "-1", "1.5", "x", "9" * 12])
def test_invalid_ttl_names_what_is_accepted(ttl: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid lifetime is refused with the accepted form."""
    with pytest.raises(SystemExit):
        ask("--user", "a", f"--ttl={ttl}")
    assert "is not a whole number of seconds from 1 to" in capsys.readouterr().err


@pytest.mark.parametrize("user", ["", "a" * 257])
def test_invalid_user_is_refused(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A token for a user id that no message can name is refused."""
    with pytest.raises(SystemExit):
        ask("--user", user)
    assert "a userId has 1 to 256 characters" in capsys.readouterr().err
