"""Converts PostgreSQL's URLs, which hosts provide for libpq, for the driver asyncpg.

asyncpg parses most of such a URL itself. It passes unknown options to the database as settings, among them some that
libpq handles itself. These are translated or removed here.
"""

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import structlog

from ...edge.errors import StartError
from ...settings import DATABASES

SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
LIBPQ = {
    *("channel_binding", "client_encoding", "gssencmode", "keepalives", "keepalives_count", "keepalives_idle"),
    *("keepalives_interval", "sslcompression", "sslsni", "tcp_user_timeout"),
}
"""Options of libpq's connections that have no equivalent in asyncpg."""
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Options that name a file."""
log = structlog.get_logger()


def is_postgresql(url: str) -> bool:
    """Return whether a URL is one of PostgreSQL."""
    return url.partition("://")[0] in SCHEMES


def shown(url: str) -> str:
    """Return a URL for people, without its password and its options, which may contain a password, too."""
    parts = _split(url)
    user, _, hosts = parts.netloc.rpartition("@")
    return f"postgresql://{user.partition(':')[0]}{':***' * (':' in user)}{'@' * bool(user)}{hosts}{parts.path}"


def arguments(url: str, timeout: float) -> dict[str, Any]:
    """Return the arguments of asyncpg's `connect`.

    Args:
        url: the URL of the database.
        timeout: time limit for answers in seconds; the URL may have a longer one for connecting.

    Raises:
        StartError: the URL is not valid; the text contains no part of it that may be secret.
    """
    parts = _split(url)
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise StartError(f"DATABASE_URL has options that cannot be read; {DATABASES}") from None
    made: dict[str, Any] = {"timeout": _seconds(options.pop("connect_timeout", "0")) or timeout}
    if options.get("channel_binding") == "require":
        log.warning("DATABASE_URL asks for channel_binding, which is not supported; use sslmode=verify-full")
    if "ssl" in options:  # SQLAlchemy's name
        options.setdefault("sslmode", options.pop("ssl"))
    if _trusts_system(options):
        made["ssl"] = ssl.create_default_context()
        made["ssl"].check_hostname = options.pop("sslmode", "verify-full") != "verify-ca"
        options.pop("sslrootcert", None)
    for name in FILES:
        if name in options and not (os.access(options[name], os.R_OK) and Path(options[name]).is_file()):
            raise StartError(f"DATABASE_URL names {options[name]!r} as its {name}, a file that cannot be read")
    query = urlencode({name: value for name, value in options.items() if name not in LIBPQ}, quote_via=quote)
    return {**made, "dsn": parts._replace(scheme="postgresql", query=query).geturl(), "command_timeout": timeout}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        ports = [
            host.rpartition("]")[2].rpartition(":")[2] for host in hosts.split(",") if ":" in host.rpartition("]")[2]
        ]
        sound = all(port.isdecimal() or not port for port in ports)
    except ValueError:
        sound = False
    if url.count("@") > 1 or ("@" in url and "@" not in parts.netloc):
        text = (
            "DATABASE_URL has an `@` too many, or a `/`, `?` or `#` before it: in a name or a password, each has to be"
        )
        raise StartError(f"{text} percent-encoded (`@` as %40, `/` as %2F, `?` as %3F, `#` as %23)")
    if not sound:
        raise StartError(f"DATABASE_URL cannot be read; {DATABASES}")
    return parts


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise StartError("DATABASE_URL has a connect_timeout that is not a whole number of seconds")
    return int(text)


def _trusts_system(options: dict[str, str]) -> bool:
    """Return whether to verify the database's certificate with the certificates that the system trusts.

    In libpq, this is `sslrootcert=system`; otherwise libpq refuses to verify without a file of certificates.
    """
    if "sslrootcert" in options:
        return options["sslrootcert"] == "system"
    of_user = Path.home() / ".postgresql" / "root.crt"
    return options.get("sslmode") in ("verify-ca", "verify-full") and not of_user.exists()
