"""ICE servers: STUN servers, which report a peer's own address to it, and TURN servers, which relay between peers.

This module creates the credentials for TURN servers. The TURN server checks them with the same secret, so the two
servers exchange nothing and store nothing. The scheme is draft-uberti-behave-turn-rest-00, which coturn calls
``use-auth-secret``.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from .edge.errors import BadMessage
from .edge.settings import SettingError
from .messages import IceServer, IceServers, Joined
from .settings import Settings

MAX_NAME = 256
"""Characters of the user id in a username. A browser refuses the whole list if a username has over 509 bytes."""

# RFC 7064 and RFC 7065, as browsers parse them: RTCPeerConnection throws if it cannot parse a URL.
_ADDRESS = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
_STUN = re.compile(rf"stuns?:{_ADDRESS}")
_TURN = re.compile(rf"turns?:{_ADDRESS}(?:\?transport=(?:udp|tcp))?")
# Values that coturn reads without a change: it removes double quotes around a value, and a = before it.
_SECRET = re.compile(r"(?!=)[!#-~]{16,}")


class Ice:
    """Creates the list of ICE servers for a user.

    Args:
        settings: `STUN_URLS`, `TURN_URLS`, `TURN_SECRET` and `TURN_TTL`.

    Raises:
        SettingError: a URL or the secret is not usable, or one of the two is set without the other.
    """

    def __init__(self, settings: Settings) -> None:
        self._stun = _urls("STUN_URLS", settings.stun_urls, _STUN, "stun:host:port or stuns:host:port")
        self._turn = _urls(
            "TURN_URLS",
            settings.turn_urls,
            _TURN,
            "turn:host:port or turns:host:port, with ?transport=udp or ?transport=tcp or without",
        )
        if self._turn and not settings.turn_secret:
            raise SettingError("TURN_URLS is set, but TURN_SECRET is not; set it to coturn's static-auth-secret")
        if settings.turn_secret and not self._turn:
            raise SettingError("TURN_SECRET is set, but TURN_URLS is not; set it to the address of the TURN server")
        if settings.turn_secret and not _SECRET.fullmatch(settings.turn_secret):
            raise SettingError(
                "TURN_SECRET is not usable; accepted are 16 or more ASCII characters without blanks and double quotes, "
                "and the first one is not ="
            )
        self._secret = settings.turn_secret.encode()
        self._ttl = settings.turn_ttl

    def servers(self, user_id: str, now: float) -> IceServers:
        """Return the servers for a user, with credentials for `TURN_TTL` seconds.

        Args:
            user_id: the user.
            now: the current time in seconds since 1970.
        """
        servers = [IceServer(self._stun)] if self._stun else []
        if not self._turn:
            return IceServers(servers)
        expiry = int(now) + self._ttl
        username = f"{expiry}:{_name(user_id)}"
        servers.append(IceServer(self._turn, username, credential(self._secret, username)))
        return IceServers(servers, datetime.fromtimestamp(expiry, UTC))

    def answer(self, user_id: str | None, now: float) -> IceServers:
        """Return the answer to `ice-servers`.

        Args:
            user_id: the user of the client; None if it has none.
            now: the current time in seconds since 1970.

        Raises:
            BadMessage: `not-registered`. A relay costs its operator traffic, so only users may use it.
        """
        if user_id is None:
            raise BadMessage("not-registered", "Join a room or register before you ask for ICE servers.")
        return self.servers(user_id, now)

    def add_servers(self, joined: Joined, user_id: str, now: float) -> Joined:
        """Return a `joined` with the servers for a user, if there are any."""
        servers = self.servers(user_id, now).ice_servers
        return msgspec.structs.replace(joined, ice_servers=servers) if servers else joined


def credential(secret: bytes, username: str) -> str:
    """Return the password for a username, which begins with the time of its expiry."""
    return base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode()


def _name(user_id: str) -> str:
    """Return a user id, percent-encoded: coturn answers 400 to spaces, quotes and backslashes.

    coturn uses the name for its log and for ``user-quota``. Two very long user ids may become the same name, which does
    no harm.
    """
    return quote(user_id, safe="")[:MAX_NAME]


def _urls(name: str, text: str, accepted: re.Pattern[str], description: str) -> Sequence[str]:
    urls = [url for part in text.split(",") if (url := part.strip())]
    for url in urls:
        match = accepted.fullmatch(url)
        if match is None or not 0 < int(match["port"] or 1) <= 65535:
            # The part before an @ is left out, since it may be a password.
            raise SettingError(f"{name} has {url.rpartition('@')[2]!r}; accepted is {description}, separated by commas")
    return urls
