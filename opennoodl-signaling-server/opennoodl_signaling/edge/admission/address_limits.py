"""The limits of one address: connections, handshakes and requests. An IPv6 /64 network counts as one address."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from ..limits import Rates
from ..settings import EdgeSettings
from .client_address import parsed

IPV6_PREFIX = 64
"""Length of the IPv6 prefix that one customer has, with all addresses in it."""
IPV6_SITE_PREFIX = 48
"""Length of the IPv6 prefix that one organisation has, with all networks in it."""


class AddressLimits:
    """Counts the handshakes, requests and connections of each address.

    Args:
        settings: the limits of one address.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self._max_connections = settings.max_connections_per_ip
        # Three counts, so that a crowd of clients that reconnects does not use up the requests for pages.
        self._tls_handshakes, self._handshakes, self._requests = (
            Rates(settings.handshake_rate_limit) for _ in range(3)
        )
        self._connections: Counter[str] = Counter()

    def allow_handshake(self, address: str, now: float) -> bool:
        """Count a handshake from `address` at time `now`, in seconds; return whether it is within the limit."""
        return self._handshakes.allow(rate_limit_key(address), now)

    def allow_tls(self, address: str, now: float) -> bool:
        """Count a TLS handshake from `address` at time `now`, in seconds; return whether it is within the limit."""
        return self._tls_handshakes.allow(rate_limit_key(address), now)

    def allow_request(self, address: str, now: float) -> bool:
        """Count an HTTP request from `address` at time `now`, in seconds; return whether it is within the limit."""
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


@lru_cache(1024)  # of each message whose sender has a quota
def rate_limit_key(address: str) -> str:
    """Return the key under which limits count an address: the IPv4 address, or the IPv6 /64 network."""
    found = parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, IPV6_PREFIX), strict=False))
    return address if found is None else str(found)


@lru_cache(1024)
def site_key(address: str) -> str:
    """Return the largest network that one client may control: the IPv4 address, or the IPv6 /48 network."""
    found = parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, IPV6_SITE_PREFIX), strict=False))
    return address if found is None else str(found)
