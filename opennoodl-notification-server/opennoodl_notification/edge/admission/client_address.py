"""Client addresses, also behind trusted proxies. `address_limits` has the limits of an address."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from ..settings import EdgeSettings, SettingError

if TYPE_CHECKING:
    import asyncio

    from websockets.datastructures import Headers

_FORWARDED_PROTO = re.compile(r'(?:^|[;,])\s*proto="?([^";,\s]*)', re.IGNORECASE)  # RFC 7239
_PORT = re.compile(r"\[([^]:]*:[^]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""An IPv6 address in brackets, or an IPv4 address, with a port: the form that some proxies use."""
MAX_PROXIES = 32
"""Addresses that are read from the end of a header. If every proxy is trusted, a header can have four thousand."""


class ClientAddresses:
    """Finds the address of each client, and whether it came over TLS, with the help of trusted proxies.

    Args:
        settings: the trusted proxies, and the header in which they report the client.

    Raises:
        SettingError: a trusted proxy is not an address or a network.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self._trusted = _networks(settings.trusted_proxies)
        self._header = settings.client_ip_header

    def client(self, peer: str, headers: Headers) -> str:
        """Return the address of the client that sent a request.

        Each proxy appends the address that it received the request from. So the header is read from its end, as long
        as the address that reported it is a trusted proxy. Ports are ignored.

        Args:
            peer: the remote address of the TCP connection.
            headers: the headers of the request.
        """
        address = parsed(peer)
        said_in_turn = ",".join(headers.get_all(self._header)).rsplit(",", MAX_PROXIES)
        for value in reversed(said_in_turn[-MAX_PROXIES:]):
            said = _said(value.strip())
            if said is None or not self._trusts(address):
                break
            address = said
        return peer if address is None else str(address)

    def secure(self, peer: str, headers: Headers) -> bool:
        """Return whether a trusted proxy reports that it received a request over TLS.

        Every scheme in the headers must be one of TLS, because the client may have set some of them.

        Args:
            peer: the remote address of the TCP connection.
            headers: the headers of the request.
        """
        schemes = [scheme for value in headers.get_all("X-Forwarded-Proto") for scheme in value.split(",")]
        schemes += _FORWARDED_PROTO.findall(",".join(headers.get_all("Forwarded")))
        return (
            self._trusts(parsed(peer))
            and bool(schemes)
            and all(scheme.strip().lower() in ("https", "wss") for scheme in schemes)
        )

    def is_proxy(self, peer: str) -> bool:
        """Return whether the remote address of a TCP connection is that of a trusted proxy."""
        return self._trusts(parsed(peer))

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
    """Return a network of IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2) as an IPv4 network."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _said(text: str) -> IPv4Address | IPv6Address | None:
    with_port = _PORT.fullmatch(text)
    return parsed(text if with_port is None else with_port[1] or with_port[2])


@lru_cache(1024)  # each address is parsed five times while its client connects
def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address that is written as text, or None if it is none. A mapped IPv4 address is an IPv4 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the remote address of a TCP connection; empty if the connection is lost."""
    return str((transport.get_extra_info("peername") or ("",))[0])
