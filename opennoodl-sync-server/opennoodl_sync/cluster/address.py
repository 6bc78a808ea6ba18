"""The address at which other instances can connect to this one."""

from ipaddress import ip_address

from ..settings import Settings
from ..storage.interface import Store

LOOPBACK = "127.0.0.1"


async def own_host(settings: Settings, store: Store) -> str | None:
    """Return the host for the URL of this instance, or None if connections are not forwarded.

    Raises:
        StartError: the address cannot be determined, so a setting is necessary.
    """
    if not settings.cluster_secret:
        return None
    if settings.instance_url:
        return LOOPBACK  # not used, since the setting has the host
    address = settings.host
    if address in ("::", "0.0.0.0"):  # noqa: S104
        address = await store.own_address() or LOOPBACK
    try:
        return f"[{address}]" if ip_address(address).version == 6 else address
    except ValueError:
        return address
