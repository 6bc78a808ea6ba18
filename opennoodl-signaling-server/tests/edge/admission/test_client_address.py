"""A client's address is what trusted proxies say, and nothing that anybody else does."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.datastructures import Headers

from ..harness import client_address, settings

PROXY, OTHER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.7"


def made(**values: Any) -> Any:
    """Return addresses with these settings."""
    return client_address.ClientAddresses(settings.EdgeSettings(**values))


def forwarded(*values: str, name: str = "X-Forwarded-For") -> Headers:
    """Return headers in which proxies say where a client is."""
    return Headers([(name, value) for value in values])


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        (CLIENT, ["1.2.3.4"], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"1.2.3.4, {CLIENT}"], CLIENT),
        (PROXY, ["1.2.3.4", CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}, {OTHER}"], CLIENT),
        (PROXY, [f" {CLIENT} ,{OTHER} "], CLIENT),
        (PROXY, [f"{OTHER}"], OTHER),
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"{CLIENT}, nonsense, {OTHER}"], OTHER),
        (PROXY, [""], PROXY),
        (PROXY, ["2001:db8::1"], "2001:db8::1"),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        ("", [CLIENT], ""),
    ],
)
def test_header_is_read_from_its_end_while_proxies_are_trusted(peer: str, said: list[str], expected: str) -> None:
    """The header is read from its end, for as long as its entries are trusted proxies, and up to a valid address."""
    assert made(trusted_proxies="10.0.0.0/8").client(peer, forwarded(*said)) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1.2.3.4:567", "1.2.3.4"),
        (f"1.2.3.4:567, {OTHER}:80", "1.2.3.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[::ffff:1.2.3.4]:567", "1.2.3.4"),
        ("2001:db8::1:443", "2001:db8::1:443"),
        ("1.2.3.4:", PROXY),
        ("1.2.3.4:http", PROXY),
        ("1.2.3:567", PROXY),
        ("[1.2.3.4]:567", PROXY),
        ("[2001:db8::1", PROXY),
        ("[2001:db8::1]443", PROXY),
        ("[2001:db8::1]:", PROXY),
        ("[2001:db8:]:443", PROXY),
        ("[unknown]:443", PROXY),
        ("localhost:443", PROXY),
        (":443", PROXY),
    ],
)
def test_port_behind_a_forwarded_address_is_ignored(said: str, expected: str) -> None:
    """A port that a proxy writes behind an address is ignored; an invalid address with a port stays invalid."""
    assert made(trusted_proxies="10.0.0.0/8").client(PROXY, forwarded(said)) == expected


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        (PROXY, [("X-Forwarded-Proto", "https")], True),
        (PROXY, [("X-Forwarded-Proto", "HTTPS")], True),
        (PROXY, [("X-Forwarded-Proto", "wss")], True),  # Traefik says this of WebSockets
        (PROXY, [("X-Forwarded-Proto", "https, https")], True),
        (PROXY, [("Forwarded", "for=203.0.113.7;proto=https")], True),
        (PROXY, [("Forwarded", 'for="[::1]"; Proto="https", for=10.0.0.2;proto=https')], True),
        (PROXY, [], False),
        (PROXY, [("X-Forwarded-Proto", "http")], False),
        (PROXY, [("X-Forwarded-Proto", "")], False),
        (PROXY, [("X-Forwarded-Proto", "https, http")], False),
        (PROXY, [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], False),
        (PROXY, [("X-Forwarded-Proto", "http"), ("Forwarded", "proto=https")], False),
        (PROXY, [("X-Forwarded-Proto", "https"), ("Forwarded", "proto=http")], False),
        (PROXY, [("Forwarded", "proto=https, proto=http")], False),
        (PROXY, [("Forwarded", "for=203.0.113.7")], False),
        (PROXY, [("Forwarded", "for=proto=https")], False),
        (CLIENT, [("X-Forwarded-Proto", "https")], False),
        (CLIENT, [("Forwarded", "proto=https")], False),
        ("", [("X-Forwarded-Proto", "https")], False),
    ],
)
def test_trusted_proxy_says_that_a_request_came_over_tls(
    peer: str, said: list[tuple[str, str]], expected: bool
) -> None:
    """A request has come over TLS if a trusted proxy says so, and nobody says otherwise."""
    assert made(trusted_proxies="10.0.0.0/8").secure(peer, Headers(said)) is expected


def test_no_header_counts_by_default() -> None:
    """By default no header counts."""
    assert made().client(PROXY, forwarded(CLIENT)) == PROXY


def test_configured_header_replaces_the_usual_one() -> None:
    """Another header may be the one that counts; the usual one does not then."""
    found = made(trusted_proxies=f"{OTHER}, {PROXY}", client_ip_header="Fly-Client-IP")
    assert found.client(PROXY, forwarded(CLIENT, name="fly-client-ip")) == CLIENT
    assert found.client(PROXY, forwarded(CLIENT)) == PROXY


@pytest.mark.parametrize("setting", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8; 1.2.3.4", "fd00::/8,x"])
def test_invalid_proxy_address_is_named(setting: str) -> None:
    """An error names the invalid proxy address."""
    with pytest.raises(settings.SettingError, match="TRUSTED_PROXIES has"):
        made(trusted_proxies=setting)


@pytest.mark.parametrize("setting", ["10.0.0.0/8", "::ffff:10.0.0.0/104"])
def test_mapped_ipv4_address_equals_the_ipv4_address(setting: str) -> None:
    """An IPv4 address is one also where a socket for both kinds, or a setting, writes it as an IPv6 address."""
    assert made(trusted_proxies=setting).client("::ffff:10.0.0.1", forwarded(CLIENT)) == CLIENT
    assert made(trusted_proxies=setting).secure("::ffff:10.0.0.1", Headers({"X-Forwarded-Proto": "https"}))
    assert made().client("::ffff:203.0.113.7", forwarded()) == "203.0.113.7"


def test_only_the_last_addresses_of_a_header_are_read() -> None:
    """Where every proxy is trusted, no more than a few of those that are named are read, from the end."""
    anybody = made(trusted_proxies="0.0.0.0/0")
    assert anybody.client(PROXY, forwarded(CLIENT, *[OTHER] * (client_address.MAX_PROXIES - 1))) == CLIENT
    assert anybody.client(PROXY, forwarded(CLIENT, *[OTHER] * client_address.MAX_PROXIES)) == OTHER
