"""The addresses: where a client is, behind proxies that are trusted to say so, and how often it may come."""

import re
from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from websockets.datastructures import Headers

from .limits import Rates
from .settings import EdgeSettings, SettingError

_FORWARDED_PROTO = re.compile(r'(?:^|[;,])\s*proto="?([^";,\s]*)', re.IGNORECASE)  # RFC 7239
_PORT = re.compile(r"\[([^]:]*:[^]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""An IPv6 address in brackets, or an IPv4 address, with its port: some proxies write them so."""
MAX_PROXIES = 32
"""Addresses in a header that are read, from its end: where every proxy is trusted, it could have four thousand."""
IPV6_PREFIX = 64
"""Bits of an IPv6 address that one customer of a network has; it may use any of the addresses behind them."""
IPV6_SITE_PREFIX = 48
"""Bits of an IPv6 address that an organisation has; it may use any of the networks behind them."""


class Addresses:
    """Finds out where clients are, and counts their connections.

    Args:
        settings: which proxies are trusted, what they call the client, and how often it may come and be here.

    Raises:
        SettingError: a trusted proxy is no address.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self._trusted = _networks(settings.trusted_proxies)
        self._header = settings.client_ip_header
        self._most = settings.max_connections_per_ip
        # Apart from each other, so that a crowd that comes back does not keep a page from being seen.
        self._hellos, self._handshakes, self._pages = (Rates(settings.handshake_rate_limit) for _ in range(3))
        self._here: Counter[str] = Counter()

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

    def knock(self, address: str, now: float) -> bool:
        """Count a handshake from `address` at time `now`, in seconds; return whether it may be one."""
        return self._handshakes.allow(place(address), now)

    def greet(self, peer: str, now: float) -> bool:
        """Count a TLS handshake of a `peer` at time `now`; return whether it may be one. Trusted proxies bring many."""
        return self._trusts(_address(peer)) or self._hellos.allow(place(peer), now)

    def ask(self, address: str, now: float) -> bool:
        """Count a request for a page from `address` at time `now`; return whether it may be one."""
        return self._pages.allow(place(address), now)

    def enter(self, address: str) -> bool:
        """Count a connection from `address`; return whether it may come in. If so, `leave` has to follow."""
        where = place(address)
        if self._most and self._here[where] >= self._most:
            return False
        self._here[where] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection from `address` no more."""
        where = place(address)
        self._here[where] -= 1
        if not self._here[where]:
            del self._here[where]

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


def place(address: str) -> str:
    """Return what is counted as one address: itself, or the IPv6 network of one customer."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address if parsed is None else str(parsed)


def site(address: str) -> str:
    """Return the largest network that a client at `address` may have for itself: the address, or the site in IPv6."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_SITE_PREFIX), strict=False))
    return address if parsed is None else str(parsed)
