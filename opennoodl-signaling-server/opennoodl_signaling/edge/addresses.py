"""The addresses: where a client is, behind proxies that are trusted to say so, and how often it may come."""

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from websockets.datastructures import Headers

from .limits import Quota
from .settings import EdgeSettings, SettingError

IPV6_PREFIX = 64
"""Bits of an IPv6 address that one customer of a network has; it may use any of the addresses behind them."""


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
        self._handshakes = Quota(settings.handshakes_per_minute, 60)
        self._here: Counter[str] = Counter()

    def client(self, peer: str, headers: Headers) -> str:
        """Return where a request comes from.

        Args:
            peer: the address at the other end of its TCP connection.
            headers: the request's. Every proxy adds the address it was connected from at the end, so they are
                read from there, as far as those are trusted who say so.
        """
        address = _address(peer)
        for value in reversed(",".join(headers.get_all(self._header)).split(",")):
            said = _address(value.strip())
            if said is None or address is None or not any(address in network for network in self._trusted):
                break
            address = said
        return peer if address is None else str(address)

    def knock(self, address: str, now: float) -> bool:
        """Count a handshake from `address` at time `now`, in seconds; return whether it may be one."""
        return self._handshakes.allow(place(address), now)

    def enter(self, address: str) -> bool:
        """Count a connection from `address`; return whether it may come in. If so, `leave` has to follow."""
        here = place(address)
        if self._most and self._here[here] >= self._most:
            return False
        self._here[here] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection from `address` no more."""
        here = place(address)
        self._here[here] -= 1
        if not self._here[here]:
            del self._here[here]


def _networks(setting: str) -> list[IPv4Network | IPv6Network]:
    networks = []
    for text in filter(None, (part.strip() for part in setting.split(","))):
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise SettingError(
                f"TRUSTED_PROXIES has {text!r}; accepted are addresses and networks such as 10.0.0.0/8 or fd00::/8, "
                "separated by commas"
            ) from None
    return networks


@lru_cache(1024)  # each is read five times while its client connects
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def place(address: str) -> str:
    """Return what is counted as one address."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address
