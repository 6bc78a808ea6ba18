"""Settings: environment variables in, one frozen object out.

A field of a settings class *is* the setting: its name in capitals is the variable, its default the
default, its ``Meta`` the bounds and the description. README tables and ``.env.example`` are held to
these declarations by tests.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

LATER = (
    "REDIS_URL",
    "DATABASE_URL",
)
"""Settings that this version, or this server, does not have yet.

Whoever sets one of them relies on it; a server that started regardless would promise a protection it
does not give.
"""


class SettingError(Exception):
    """A setting that cannot be used; its text is one line that names it, its value and what is accepted."""


class EdgeSettings(Struct, frozen=True, kw_only=True):
    """The settings that all three servers share."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on. `::` is every address of the machine, of IPv6 and IPv4; `0.0.0.0` is "
            "every address of IPv4.",
        ),
    ] = "::"
    max_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Connections at once; one more is answered 503. 0 means no limit, but for that of open files.",
        ),
    ] = 10_000
    max_connections_per_ip: Annotated[
        int,
        Meta(
            ge=0,
            description="Connections from one address at once, or from one IPv6 network of 64 bits; one more is "
            "answered 429. 0 means no limit.",
        ),
    ] = 1000
    handshake_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Handshakes a second from one address, with ten seconds' worth saved up; one more is answered "
            "429. As many requests for pages other than `/health`, which has no limit, and as many TLS "
            "handshakes, of which one more is cut. 0 means no limit.",
        ),
    ] = 100
    tls_cert: Annotated[
        str,
        Meta(
            description="PEM file of this server's certificate, with those that lead to its root. "
            "Empty for no TLS here."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's private key; needed with `TLS_CERT`.")] = ""
    require_wss: Annotated[
        bool,
        Meta(
            description="Whether clients are refused that have not come over TLS, to this server or to a trusted proxy "
            "that says so; `/health` and `/metrics` answer anybody."
        ),
    ] = False
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Addresses and networks of proxies that are believed where a client is and whether it came "
            "over TLS, separated by commas. Empty for none."
        ),
    ] = ""
    client_ip_header: Annotated[
        str, Meta(min_length=1, description="The header in which trusted proxies say where a client is.")
    ] = "X-Forwarded-For"
    allowed_origins: Annotated[
        str,
        Meta(
            min_length=1,
            description="Web pages that browsers may come from: origins such as `https://noodl.example` or "
            "`https://*.noodl.example`, and `null` and `file://` for pages from files, as in a desktop editor, "
            "separated by commas; `*` for any.",
        ),
    ] = "*"
    auth: Annotated[
        Literal["none", "jwt", "github"],
        Meta(
            description="How users prove who they are: `jwt` with a token that a key of yours signed, `github` with "
            "the token of their login at GitHub, `none` not at all."
        ),
    ] = "none"
    auth_secret: Annotated[
        str,
        Meta(
            description="The secret that signs tokens with HS256, in 32 characters or more. With `AUTH=github`, tokens "
            "signed with it are accepted beside GitHub's."
        ),
    ] = ""
    auth_public_key: Annotated[
        str,
        Meta(
            description="In place of a secret, the public key of whoever signs tokens, in PEM with line ends or `\\n`: "
            "RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)."
        ),
    ] = ""
    auth_jwks_url: Annotated[
        str,
        Meta(description="In place of one key, the URL under which an issuer publishes its keys as a JWK Set."),
    ] = ""
    auth_issuer: Annotated[str, Meta(description="What a token's `iss` must be. Empty for anything.")] = ""
    auth_audience: Annotated[str, Meta(description="What must be in a token's `aud`. Empty for anything.")] = ""
    github_api_url: Annotated[
        str, Meta(min_length=1, description="GitHub's API, for `AUTH=github`; set it for GitHub Enterprise.")
    ] = "https://api.github.com"
    rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages a second that one connection may send, with ten seconds' worth saved up. "
            "0 means no limit.",
        ),
    ] = 100
    byte_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of messages a second that one connection may send, with ten seconds' worth saved up, "
            "or one message of the largest size. 0 means no limit.",
        ),
    ] = 131_072
    slow_client_buffer: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes waiting for a client that does not read; beyond them it is closed with 1013. "
            "0 means no limit.",
        ),
    ] = 1_048_576
    heartbeat_interval: Annotated[
        int,
        Meta(
            ge=0,
            description="Milliseconds between pings; a client silent for two of them is gone. 0 means no pings.",
        ),
    ] = 30_000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level that is logged.")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="`text` for people, `json` for log collectors.")
    ] = "text"


S = TypeVar("S", bound=EdgeSettings)


class Setting(NamedTuple):
    """One setting as a reader of the documentation sees it."""

    name: str
    default: str
    accepted: str
    description: str


def load(kind: type[S], environment: Mapping[str, str]) -> S:
    """Read every field of `kind` from `environment`; an empty value counts as unset.

    Raises:
        SettingError: a value is not accepted, or names something that this version cannot do.
    """
    for name in LATER:
        own = name.lower() in kind.__struct_fields__
        if not own and environment.get(name, "").lower() not in ("", "0", "false", "none"):
            raise SettingError(f"{name} is set, but this version does not support it; unset {name} to start")
    values = {}
    for field in msgspec.structs.fields(kind):
        name = field.name.upper()
        text = environment.get(name, "")
        if not text:
            continue
        if not _is_text(text):  # and is not shown, since it may be a secret
            raise SettingError(f"{name} is no valid UTF-8; accepted is {_accepted(field.type)}")
        try:
            choice = isinstance(msgspec.inspect.type_info(get_args(field.type)[0]), msgspec.inspect.LiteralType)
            values[field.name] = msgspec.convert(text.lower() if choice else text, field.type, strict=False)
        except msgspec.ValidationError:
            raise SettingError(f"{name} is {text!r}; accepted is {_accepted(field.type)}") from None
    return kind(**values)


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
    """Return whether a variable is text: in place of bytes that are none, Python has halves of surrogate pairs."""
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
            # In the order of their declaration, which msgspec does not keep.
            return " or ".join(get_args(get_args(kind)[0]))
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} {'up' if most is None else f'to {most}'}"
        case msgspec.inspect.StrType(min_length=None):
            return "a text"
        case _:
            return "a text that is not empty"
