"""Origins: which web pages may connect, and the CORS headers that tell browsers so (Fetch standard)."""

import re
from collections.abc import Sequence

from ..settings import SettingError

ANY = "*"
METHODS = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    # The asterisk does not include Authorization (Fetch standard, CORS-preflight fetch).
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "Retry-After, WWW-Authenticate",
    "Access-Control-Max-Age": "86400",
}
# As browsers write it (RFC 6454, 6.2): a scheme, a host, and a port that is not the default of the scheme. ``null`` is
# the origin of a page without one, such as a file.
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://(?:\*\.)?(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|file://")


class Origins:
    """Decides which origins may connect.

    Args:
        setting: the allowed origins, separated by commas, or ``*`` for any.

    Raises:
        SettingError: a part of the setting is not an origin.
    """

    def __init__(self, setting: str) -> None:
        self._any = setting.strip() == ANY
        texts = [] if self._any else [part.strip().lower() for part in setting.split(",") if part.strip()]
        for text in texts:
            if not _ORIGIN.fullmatch(text):
                raise SettingError(
                    f"ALLOWED_ORIGINS has {text!r}; accepted are * alone, or origins such as https://noodl.example or "
                    "https://*.noodl.example, null or file://, separated by commas"
                )
        self._exact = frozenset(text for text in texts if ANY not in text)
        self._below = [text.partition(ANY) for text in texts if ANY in text]

    def allow(self, origins: Sequence[str]) -> bool:
        """Return whether a request with these ``Origin`` headers is allowed. Without one, it is not from a browser."""
        if self._any or not origins:
            return True
        if len(origins) > 1:
            return False
        origin = origins[0].lower()
        return origin in self._exact or any(
            origin.startswith(scheme) and origin.endswith(host) and len(origin) > len(scheme) + len(host)
            for scheme, _, host in self._below
        )

    def headers(self, origins: Sequence[str]) -> dict[str, str]:
        """Return the CORS headers for the response to a request with these ``Origin`` headers."""
        if self._any:
            return {"Access-Control-Allow-Origin": ANY, **METHODS}
        if origins and self.allow(origins):
            return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin", **METHODS}
        return {"Vary": "Origin"}
