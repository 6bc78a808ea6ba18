"""ICE servers: what is minted, and which settings are not usable."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_signaling.edge.settings import SettingError
from opennoodl_signaling.ice import Ice, credential
from opennoodl_signaling.settings import Settings

NOW = 1_266_890_000.9
SECRET = "0123456789abcdef"
STUN = "stun:turn.example:3478"
TURN = "turn:turn.example:3478?transport=udp"
BOTH = {"stun_urls": STUN, "turn_urls": TURN, "turn_secret": SECRET}


def mint(user: str = "ann", now: float = NOW, **settings: Any) -> Any:
    """Return what a user is given, as it is sent."""
    return msgspec.to_builtins(Ice(Settings(**settings)).servers(user, now))


def username(user: str) -> str:
    """Return the name under which a user opens a relay."""
    name: str = mint(user, turn_urls=TURN, turn_secret=SECRET)["iceServers"][0]["username"]
    return name


def refusal(**settings: Any) -> str:
    """Return the line that refuses these settings."""
    with pytest.raises(SettingError) as info:
        Ice(Settings(**settings))
    return str(info.value)


# Credentials


def test_credential_is_the_hmac_of_the_username() -> None:
    """The credential is base64(HMAC-SHA1(secret, username))."""
    assert credential(b"north", "1266890800:mbzrxpgjys") == "nbRcrnq5h6xXhyNhlwk+lDLvVVo="


def test_nothing_configured_lists_no_servers() -> None:
    """Without settings there are no servers, and nothing that expires."""
    assert mint() == {"type": "ice-servers", "iceServers": []}


def test_stun_needs_no_credentials() -> None:
    """STUN needs no credentials, and does not expire."""
    assert mint(stun_urls=STUN) == {"type": "ice-servers", "iceServers": [{"urls": [STUN]}]}


def test_turn_follows_stun_with_credentials() -> None:
    """TURN comes with the user's credentials, after STUN."""
    stun, turn = mint("ann", turn_ttl=800, **BOTH)["iceServers"]
    assert stun == {"urls": [STUN]}
    name = "1266890800:ann"
    assert turn == {"urls": [TURN], "username": name, "credential": credential(SECRET.encode(), name)}


def test_username_starts_with_its_expiry() -> None:
    """The username starts with the time at which it expires, and `expiresAt` is the same time."""
    minted = mint(turn_ttl=800, **BOTH)
    assert minted["iceServers"][1]["username"].split(":")[0] == "1266890800"
    assert minted["expiresAt"] == datetime.fromtimestamp(1_266_890_800, UTC).isoformat().replace("+00:00", "Z")


def test_later_credentials_expire_later() -> None:
    """Later credentials expire later."""
    first, second = mint(now=NOW, **BOTH), mint(now=NOW + 60, **BOTH)
    assert first["expiresAt"] < second["expiresAt"]
    assert first["iceServers"][1]["credential"] != second["iceServers"][1]["credential"]


def test_longest_ttl_can_be_written() -> None:
    """The longest time that is accepted can be written down."""
    assert mint(turn_ttl=31_536_000, **BOTH)["expiresAt"] == "2011-02-23T01:53:20Z"


def test_several_urls_share_credentials() -> None:
    """URLs are separated by commas, with or without blanks, and share one set of credentials."""
    urls = ["turn:a.example", "turn:[2001:db8::1]:3478?transport=tcp", "turns:a.example:5349?transport=tcp"]
    (turn,) = mint(turn_urls=f" {urls[0]},{urls[1]} , {urls[2]},", turn_secret=SECRET)["iceServers"]
    assert turn["urls"] == urls


def test_each_user_has_credentials() -> None:
    """Every user has credentials of their own, by which coturn tells them apart."""
    assert username("ann") != username("ben")


@given(st.text(min_size=1, max_size=256))
def test_username_suits_coturn_and_browsers(user: str) -> None:
    """The name is what coturn and browsers take, whatever the id: one colon, nothing to escape, 509 bytes at most."""
    name = username(user)
    assert re.fullmatch(r"\d+:[\w.~%-]+", name, flags=re.ASCII)
    assert len(name) <= 509


def test_username_can_be_read() -> None:
    """An operator finds the user's id in coturn's log."""
    assert unquote(username('Ann "A" Bö: x/y').split(":")[1]) == 'Ann "A" Bö: x/y'


# Settings that are not usable


@pytest.mark.parametrize(
    "url",
    [
        "turn.example:3478",
        "turn:turn.example",
        "http://turn.example",
        "stun://turn.example",
        "stun:",
        "stun::3478",
        "stun:turn.example:",
        "stun:turn.example:0",
        "stun:turn.example:65536",
        "stun:turn.example:²",
        "stun:turn.example?transport=udp",
        "stun:a b",
        "STUN:turn.example",
    ],
)
def test_bad_stun_url_is_named(url: str) -> None:
    """A STUN URL that browsers would refuse is refused with the setting's name and the URL."""
    line = refusal(stun_urls=f"{STUN},{url}")
    assert line == f"STUN_URLS has {url!r}; accepted is stun:host:port or stuns:host:port, separated by commas"


@pytest.mark.parametrize(
    "url",
    [
        "stun:turn.example",
        "turn://turn.example",
        "turn:turn.example?transport=sctp",
        "turn:turn.example?ttl=3",
        "turn:turn.example/path",
        "turn:[::1",
        "turn:turn.example:99999",
    ],
)
def test_bad_turn_url_is_named(url: str) -> None:
    """A TURN URL that browsers would refuse is refused with the setting's name and the URL."""
    line = refusal(turn_urls=f"{TURN},{url}", turn_secret=SECRET)
    assert line.startswith(f"TURN_URLS has {url!r}; accepted is turn:host:port or turns:host:port")


def test_password_in_a_url_is_refused() -> None:
    """A password has no place in a URL, and is not shown."""
    line = refusal(turn_urls="turn:ann:hush@turn.example", turn_secret=SECRET)
    assert "'turn.example'" in line
    assert "hush" not in line


@pytest.mark.parametrize("url", ["stun:a\nb", "stun:\x1b[2J", "stun:\udcff"])
def test_url_refusal_is_one_line(url: str) -> None:
    """The refusal is one printable line of valid text whatever the URL holds."""
    assert refusal(stun_urls=url).encode().decode().isprintable()


def test_turn_urls_need_a_secret() -> None:
    """A TURN server without its secret is of no use."""
    assert refusal(turn_urls=TURN).startswith("TURN_URLS is set, but TURN_SECRET is not")


@pytest.mark.parametrize("urls", ["", " , "])
def test_secret_needs_turn_urls(urls: str) -> None:
    """A secret without a TURN server is a setting forgotten."""
    line = refusal(turn_urls=urls, turn_secret=SECRET)
    assert line.startswith("TURN_SECRET is set, but TURN_URLS is not")
    assert SECRET not in line


@pytest.mark.parametrize(
    "secret",
    [
        "hush",
        "0123456789abcde",
        "hush hush hush hush",
        "hush-hush-hush-hüsh",
        "\udcff" * 16,
        '"hush-hush-hush-hush"',
        "=hush-hush-hush-hush",
    ],
)
def test_bad_secret_is_refused(secret: str) -> None:
    """A secret that is short, or that coturn would read in another way, is refused and not shown."""
    line = refusal(turn_urls=TURN, turn_secret=secret)
    assert line.startswith("TURN_SECRET is not usable; accepted are 16 or more ASCII characters")
    assert "hush" not in line


def test_generated_secret_is_accepted() -> None:
    """A secret made with `openssl rand` is accepted, in hexadecimal digits or in base64."""
    for secret in ("0123456789abcdef", "vGhl+Sm9lIENv/Y2tl==", "a'b#c$d%e&f(g)h,i;j"):
        assert mint(turn_urls=TURN, turn_secret=secret)["expiresAt"]
