"""The origins: from which web pages browsers may come in, and what these are told of it (the Fetch standard's CORS)."""

import re
from collections.abc import Sequence

from ..settings import SettingError

ANY = "*"
METHODS = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    # The asterisk does not stand for Authorization (the Fetch standard, CORS-preflight fetch).
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "Retry-After, WWW-Authenticate",
    "Access-Control-Max-Age": "86400",
}
# As browsers write it (RFC 6454, 6.2): a scheme, a host and a port that is not the scheme's own. ``null`` is what they
# say for a page that has none, such as a file.
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://(?:\*\.)?(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|file://")


class Origins:
    """Decides about origins.

    Args:
        setting: the allowed ones, separated by commas, or ``*`` for any.

    Raises:
        SettingError: something in it is no origin.
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
        """Return whether a request with these ``Origin`` headers may come in; without one it is no browser's."""
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
        """Return what tells a browser whether its page may read the answer to a request."""
        if self._any:
            return {"Access-Control-Allow-Origin": ANY, **METHODS}
        if origins and self.allow(origins):
            return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin", **METHODS}
        return {"Vary": "Origin"}
