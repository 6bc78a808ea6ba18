"""Client addresses, also behind trusted proxies, and the limits of rate and number for each address."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from ..limits import Rates
from ..settings import EdgeSettings, SettingError

if TYPE_CHECKING:
    import asyncio

    from websockets.datastructures import Headers

_FORWARDED_PROTO = re.compile(r'(?:^|[;,])\s*proto="?([^";,\s]*)', re.IGNORECASE)  # RFC 7239
_PORT = re.compile(r"\[([^]:]*:[^]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""An IPv6 address in brackets, or an IPv4 address, with its port: some proxies write them so."""
MAX_PROXIES = 32
"""Addresses in a header that are read, from its end: where every proxy is trusted, it could have four thousand."""
IPV6_PREFIX = 64
"""Bits of an IPv6 address that one customer of a network has; it may use any of the addresses behind them."""
IPV6_SITE_PREFIX = 48
"""Bits of an IPv6 address that an organisation has; it may use any of the networks behind them."""


class ClientAddresses:
    """Finds the address of a client, and counts its handshakes, requests and connections.

    Args:
        settings: the trusted proxies, the header in which they name the client, and the limits of one address.

    Raises:
        SettingError: a trusted proxy is no address.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self._trusted = _networks(settings.trusted_proxies)
        self._header = settings.client_ip_header
        self._max_connections = settings.max_connections_per_ip
        # Three counts, so that many clients that reconnect at once do not use up the requests for pages.
        self._tls_handshakes, self._handshakes, self._requests = (
            Rates(settings.handshake_rate_limit) for _ in range(3)
        )
        self._connections: Counter[str] = Counter()

    def client(self, peer: str, headers: Headers) -> str:
        """Return where a request comes from.

        Args:
            peer: the address at the other end of its TCP connection.
            headers: the request's. Every proxy adds the address it was connected from at the end, so they are
                read from there, as far as those are trusted who say so. Their ports do not count.
        """
        address = _address(peer)
        said_in_turn = ",".join(headers.get_all(self._header)).rsplit(",", MAX_PROXIES)
        for value in reversed(said_in_turn[-MAX_PROXIES:]):
            said = _said(value.strip())
            if said is None or not self._trusts(address):
                break
            address = said
        return peer if address is None else str(address)

    def secure(self, peer: str, headers: Headers) -> bool:
        """Return whether a request came over TLS to a trusted proxy.

        Args:
            peer: the address at the other end of its TCP connection.
            headers: the request's. Whatever is said of the scheme in them has to be that of TLS, since some of it
                may have been said by the client.
        """
        schemes = [scheme for value in headers.get_all("X-Forwarded-Proto") for scheme in value.split(",")]
        schemes += _FORWARDED_PROTO.findall(",".join(headers.get_all("Forwarded")))
        return (
            self._trusts(_address(peer))
            and bool(schemes)
            and all(scheme.strip().lower() in ("https", "wss") for scheme in schemes)
        )

    def allow_handshake(self, address: str, now: float) -> bool:
        """Count a handshake from `address` at time `now`, in seconds; return whether it is within the limit."""
        return self._handshakes.allow(rate_limit_key(address), now)

    def allow_tls(self, peer: str, now: float) -> bool:
        """Count a TLS handshake of a `peer` at time `now`; return whether it is within the limit.

        Trusted proxies have no limit here.
        """
        return self._trusts(_address(peer)) or self._tls_handshakes.allow(rate_limit_key(peer), now)

    def allow_request(self, address: str, now: float) -> bool:
        """Count a request for a page from `address` at time `now`; return whether it is within the limit."""
        return self._requests.allow(rate_limit_key(address), now)

    def acquire(self, address: str) -> bool:
        """Count a connection from `address`; return whether it is within the limit. If so, `release` must follow."""
        key = rate_limit_key(address)
        if self._max_connections and self._connections[key] >= self._max_connections:
            return False
        self._connections[key] += 1
        return True

    def release(self, address: str) -> None:
        """Stop counting a connection from `address`."""
        key = rate_limit_key(address)
        self._connections[key] -= 1
        if not self._connections[key]:
            del self._connections[key]

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _networks(setting: str) -> list[IPv4Network | IPv6Network]:
    networks = []
    for text in filter(None, (part.strip() for part in setting.split(","))):
        try:
            networks.append(_unmapped(ip_network(text)))
        except ValueError:
            raise SettingError(
                f"TRUSTED_PROXIES has {text!r}; accepted are addresses and networks such as 10.0.0.0/8 or fd00::/8, "
                "separated by commas"
            ) from None
    return networks


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return a network of IPv4 addresses that are written as IPv6 ones (RFC 4291, 2.5.5.2) as what it is."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _said(text: str) -> IPv4Address | IPv6Address | None:
    with_port = _PORT.fullmatch(text)
    return _address(text if with_port is None else with_port[1] or with_port[2])


@lru_cache(1024)  # each is read five times while its client connects
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the other end of a TCP connection; empty if it is gone, since event loops fail then."""
    return str((transport.get_extra_info("peername") or ("",))[0])


def rate_limit_key(address: str) -> str:
    """Return the key under which limits count an address: the IPv4 address, or the IPv6 network of one customer."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address if parsed is None else str(parsed)


def site_key(address: str) -> str:
    """Return the largest network that one client may control: the IPv4 address, or the IPv6 network of a site."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_SITE_PREFIX), strict=False))
    return address if parsed is None else str(parsed)
