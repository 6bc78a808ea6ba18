"""Settings: reads environment variables into one frozen object.

Each field of a settings class is a setting. Its name in capitals is the variable. Its ``Meta`` has the bounds and the
description. Tests compare the tables in docs/settings.md and ``.env.example`` with these declarations.

msgspec converts the values, as it decodes the messages. A library for settings, such as pydantic-settings, would add a
second way to declare types, and its errors have several lines.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

NOT_EVERYWHERE = (
    "REDIS_URL",
    "DATABASE_URL",
)
"""Settings that only some of the servers have.

A server that lacks one of them does not start if it is set. Its operator expects an effect that it would not have, such
as documents in a database.
"""


class SettingError(Exception):
    """A setting cannot be used; the text is one line with its name, its value, and the accepted values."""


def is_http_url(url: str) -> bool:
    """Return whether a setting is a valid http:// or https:// URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # urlsplit refuses brackets, `port` a bad port
        return False


class EdgeSettings(Struct, frozen=True, kw_only=True):
    """The settings that all three servers have."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on. `::` is every IPv6 and IPv4 address of the machine, `0.0.0.0` every "
            "IPv4 address.",
        ),
    ] = "::"
    max_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Open connections. A further one is answered with 503. 0 means no limit except that of open "
            "files.",
        ),
    ] = 10_000
    max_connections_per_ip: Annotated[
        int,
        Meta(
            ge=0,
            description="Open connections from one IPv4 address or one IPv6 /64 network. A further one is answered "
            "with 429. 0 means no limit.",
        ),
    ] = 1000
    handshake_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="WebSocket handshakes a second from one address, with a burst of ten seconds. A further one "
            "is answered with 429. The same limit applies to HTTP requests, except for `/health` and "
            "`/ready`, and to TLS handshakes. A further TLS handshake is aborted. 0 means no limit.",
        ),
    ] = 100
    tls_cert: Annotated[
        str,
        Meta(
            description="PEM file with this server's certificate and its intermediate certificates. Empty means no "
            "TLS in this server."
        ),
    ] = ""
    tls_key: Annotated[
        str, Meta(description="PEM file with the certificate's private key. Required with `TLS_CERT`.")
    ] = ""
    require_wss: Annotated[
        bool,
        Meta(
            description="Refuse connections without TLS with 403. TLS may end at this server or at a trusted proxy "
            "that reports it. `/health`, `/ready` and `/metrics` are exempt."
        ),
    ] = False
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses and networks of reverse proxies, separated by commas. The server believes what "
            "they report about a client's address and TLS. Empty means none."
        ),
    ] = ""
    client_ip_header: Annotated[
        str, Meta(min_length=1, description="Header in which trusted proxies report the client's address.")
    ] = "X-Forwarded-For"
    allowed_origins: Annotated[
        str,
        Meta(
            min_length=1,
            description="Origins of the web pages that may connect, separated by commas: `https://noodl.example`, "
            "`https://*.noodl.example`, or `null` and `file://` for pages from files, as in the desktop "
            "editor. `*` allows every origin.",
        ),
    ] = "*"
    auth: Annotated[
        Literal["none", "jwt", "github"],
        Meta(
            description="How users are authenticated: `jwt` by a JSON Web Token that your key signed, `github` by a "
            "GitHub access token, `none` not at all."
        ),
    ] = "none"
    auth_secret: Annotated[
        str,
        Meta(
            description="Secret of at least 32 characters that signs tokens with HS256. With `AUTH=github`, such "
            "tokens are accepted beside GitHub's."
        ),
    ] = ""
    auth_public_key: Annotated[
        str,
        Meta(
            description="Public key of the token issuer, in place of a secret: PEM with line breaks or `\\n`, for RSA "
            "(RS256), P-256 (ES256) or Ed25519 (EdDSA)."
        ),
    ] = ""
    auth_jwks_url: Annotated[
        str,
        Meta(description="URL of the token issuer's JWK Set, in place of one key."),
    ] = ""
    auth_issuer: Annotated[str, Meta(description="Required `iss` claim of a token. Empty accepts any.")] = ""
    auth_audience: Annotated[str, Meta(description="Required `aud` claim of a token. Empty accepts any.")] = ""
    github_api_url: Annotated[
        str,
        Meta(min_length=1, description="URL of the GitHub API, for `AUTH=github`. Change it for GitHub Enterprise."),
    ] = "https://api.github.com"
    allow_load_test: Annotated[
        bool,
        Meta(
            description="Let `make load` put this server under load without `AUTH`. `/health` then shows it as "
            "`loadTest`. With `AUTH`, the load test needs the server's `AUTH_SECRET` instead."
        ),
    ] = False
    rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages a second from one connection, with a burst of ten seconds. Further messages are "
            "refused with `rate-limited`. 0 means no limit.",
        ),
    ] = 100
    byte_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of messages a second from one connection, with a burst of ten seconds or of one "
            "message of the largest size. Further messages are refused with `rate-limited`. 0 means no "
            "limit.",
        ),
    ] = 131_072
    slow_client_buffer: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of output that a client has not read. A client with more is closed with 1013. 0 means "
            "no limit.",
        ),
    ] = 1_048_576
    heartbeat_interval: Annotated[
        int,
        Meta(
            ge=0,
            description="Milliseconds between pings. A client that is silent for two intervals is disconnected. 0 "
            "means no pings.",
        ),
    ] = 30_000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Lowest level that is logged.")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="Format of log lines: `text` for people, `json` for log collectors.")
    ] = "text"

    @property
    def files_per_connection(self) -> int:
        """Open files that one connection can need."""
        return 1


S = TypeVar("S", bound=EdgeSettings)


class Setting(NamedTuple):
    """One setting as the documentation shows it.

    Attributes:
        name: the environment variable.
        default: the default, as text.
        accepted: the accepted values, in words.
        description: one or more sentences.
    """

    name: str
    default: str
    accepted: str
    description: str


def load(kind: type[S], environment: Mapping[str, str]) -> S:
    """Return the settings in `environment`. An empty value counts as unset.

    Args:
        kind: the settings class of the server.
        environment: the environment variables.

    Raises:
        SettingError: a value is not accepted, or the server does not have a setting of `NOT_EVERYWHERE`.
    """
    for name in NOT_EVERYWHERE:
        own = name.lower() in kind.__struct_fields__
        if not own and environment.get(name, "").lower() not in ("", "0", "false", "none"):
            raise SettingError(f"{name} is set, but this server does not have this setting; unset it")
    values = {}
    for field in msgspec.structs.fields(kind):
        name = field.name.upper()
        text = environment.get(name, "")
        if not text:
            continue
        if not _is_text(text):  # the value is not shown, since it may be a secret
            raise SettingError(f"{name} is not valid UTF-8; accepted is {_accepted(field.type)}")
        try:
            choice = isinstance(msgspec.inspect.type_info(get_args(field.type)[0]), msgspec.inspect.LiteralType)
            values[field.name] = msgspec.convert(text.lower() if choice else text, field.type, strict=False)
        except msgspec.ValidationError:
            raise SettingError(f"{name} is {text!r}; accepted is {_accepted(field.type)}") from None
    return kind(**values)


def numbers(settings: EdgeSettings) -> dict[str, int]:
    """Return the settings that are whole numbers, such as limits, by the name of their variable."""
    values = msgspec.structs.asdict(settings)
    return {name.upper(): value for name, value in values.items() if type(value) is int}


def describe(kind: type[EdgeSettings]) -> Iterator[Setting]:
    """Yield every setting of `kind`, the server's own ones first."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    shared = set(EdgeSettings.__struct_fields__)
    for name in sorted(fields, key=lambda name: name in shared):
        field = fields[name]
        default = field.default if not isinstance(field.default, bool) else str(field.default).lower()
        info = msgspec.inspect.type_info(field.type)
        schema = (info.extra_json_schema or {}) if isinstance(info, msgspec.inspect.Metadata) else {}
        yield Setting(name.upper(), str(default), _accepted(field.type), schema.get("description", ""))


def _is_text(value: str) -> bool:
    """Return whether a value is valid UTF-8. Python decodes invalid bytes as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _accepted(kind: object) -> str:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType():
            # In the order of the declaration, which msgspec does not keep.
            *others, last = get_args(get_args(kind)[0])
            return f"{', '.join(others)} or {last}"
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
        case msgspec.inspect.StrType(min_length=None):
            return "text"
        case _:
            return "text that is not empty"
