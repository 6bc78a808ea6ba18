"""ICE servers: where peers learn their own address (STUN), and what relays for those who find no way (TURN).

A relay's credentials are minted here, and checked by the TURN server with the same secret: nothing is exchanged
and nothing kept. It is the scheme of draft-uberti-behave-turn-rest-00, which coturn calls ``use-auth-secret``.
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
"""Characters of the user's part of a username. With more than 509 bytes in all, a browser refuses the whole list."""

# RFC 7064 and RFC 7065, as browsers read them: one that they cannot read makes RTCPeerConnection throw.
_ADDRESS = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
_STUN = re.compile(rf"stuns?:{_ADDRESS}")
_TURN = re.compile(rf"turns?:{_ADDRESS}(?:\?transport=(?:udp|tcp))?")
# What coturn reads as it is written: it drops double quotes around a value, and a = before it.
_SECRET = re.compile(r"(?!=)[!#-~]{16,}")


class Ice:
    """Mints what one user needs for an ``RTCPeerConnection``.

    Raises:
        SettingError: a URL or the secret is not usable, or one of the two is there without the other.
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
        """Return the servers for a user, with credentials that a relay can be opened with from `now` on."""
        servers = [IceServer(self._stun)] if self._stun else []
        if not self._turn:
            return IceServers(servers)
        expiry = int(now) + self._ttl
        username = f"{expiry}:{_name(user_id)}"
        servers.append(IceServer(self._turn, username, credential(self._secret, username)))
        return IceServers(servers, datetime.fromtimestamp(expiry, UTC))

    def answer(self, user_id: str | None, now: float) -> IceServers:
        """Return the servers for whoever asks.

        Raises:
            BadMessage: `not-registered`: a relay costs who runs it, so it is for users.
        """
        if user_id is None:
            raise BadMessage("not-registered", "Join a room or register before you ask for ICE servers.")
        return self.servers(user_id, now)

    def furnish(self, joined: Joined, user_id: str, now: float) -> Joined:
        """Return the answer to `join` with the servers in it, if there are any."""
        servers = self.servers(user_id, now).ice_servers
        return msgspec.structs.replace(joined, ice_servers=servers) if servers else joined


def credential(secret: bytes, username: str) -> str:
    """Return the password that goes with a username whose first part is the time of its expiry."""
    return base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode()


def _name(user_id: str) -> str:
    """Return a user's id so that coturn takes it: it answers 400 to blanks, quotes and backslashes.

    The name is for coturn's log and its ``user-quota``; that two very long ones may become the same does no harm.
    """
    return quote(user_id, safe="")[:MAX_NAME]


def _urls(name: str, text: str, accepted: re.Pattern[str], description: str) -> Sequence[str]:
    urls = [url for part in text.split(",") if (url := part.strip())]
    for url in urls:
        match = accepted.fullmatch(url)
        if match is None or not 0 < int(match["port"] or 1) <= 65535:
            # What stands before an @ is not repeated: it was meant to be a password.
            raise SettingError(f"{name} has {url.rpartition('@')[2]!r}; accepted is {description}, separated by commas")
    return urls
