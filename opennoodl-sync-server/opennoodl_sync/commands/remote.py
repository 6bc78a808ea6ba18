"""Commands on a running server, which they ask over HTTP."""

import os
import ssl
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from ..edge.command_line import CommandError, counted
from ..settings import Settings
from .stores import shown

TIMEOUT = 15.0
"""Seconds after which a server that does not answer is given up."""
SECONDS = 60
"""For which the token of one command is good."""
ACCEPTED = "accepted is http://host:port or https://host:port"


class Server(NamedTuple):
    """A running server.

    Attributes:
        url: where it is.
        token: that is shown to it; None for none.
    """

    url: str
    token: str | None


def server(settings: Settings, url: str | None) -> Server:
    """Return the server at a URL, or at the settings' port of this machine.

    Raises:
        CommandError: the URL is none of a server.
    """
    url = url or f"{'https' if settings.tls_cert else 'http'}://localhost:{settings.port}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise CommandError(f"{url} is not the URL of a server; {ACCEPTED}")
    return Server(url.rstrip("/"), os.environ.get("TOKEN") or _minted(settings))


def _minted(settings: Settings) -> str | None:
    if not settings.auth_secret:
        return None
    from ..edge.auth.jwt_tokens import mint  # the other commands do without

    return mint(settings, {"sub": "operator", "services": True}, SECONDS)


def ask(server: Server, method: str, path: str) -> dict[str, Any]:
    """Return a server's answer.

    Raises:
        CommandError: it refuses, or cannot be reached.
    """
    headers = {"Accept": "application/json"}
    if server.token is not None:
        headers["Authorization"] = f"Bearer {server.token}"
    try:
        with httpx.Client(verify=ssl.create_default_context(), trust_env=False, timeout=TIMEOUT) as client:
            answer = client.request(method, server.url + path, headers=headers)
        body: dict[str, Any] = msgspec.json.decode(answer.content, type=dict)
    except httpx.TimeoutException:
        raise CommandError(f"{server.url} does not answer") from None
    except httpx.HTTPError as error:
        raise CommandError(f"{server.url} cannot be reached: {error}") from None
    except msgspec.DecodeError:
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            text = f"{server.url} has no such page: this needs a sync server with AUTH and ENABLE_PERSISTENCE"
            raise CommandError(text) from None
        if answer.is_error and answer.headers.get("Content-Type", "").startswith("text/plain"):
            said, _, _ = answer.text.strip().partition("\n")  # before the request was one of these pages
            raise CommandError(f"the server refuses: {said}") from None
        raise CommandError(f"{server.url} is not a sync server: it answers {answer.status_code}") from None
    if answer.is_success:
        return body
    hint = ""
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        hint = " Set TOKEN to a token with `services`, or AUTH_SECRET as the server has it."
    raise CommandError(f"the server refuses: {body.get('error', answer.status_code)}{hint}")


def change_room(server: Server, act: str, room: str) -> str:
    """Kick, close or open a room; return a line that says what was done."""
    number = ask(server, "POST", _path(room, act)).get("disconnected")
    if number is None:
        return "the server works on it still"
    done = {"kick": "", "close": "the room is closed; ", "open": "the room is open; "}[act]
    return f"{done}disconnected: {counted(number, 'client')}"


def stats(server: Server) -> Iterator[str]:
    """Yield lines about the rooms of a server."""
    found = ask(server, "GET", "/rooms")
    yield f"in memory: {counted(found['documents'], 'document')}"
    for title in ("largest", "busiest"):
        for one in found[title]:
            numbers = f"{one['bytes']:12} bytes {one['clients']:6} clients {one['changes']:8} changes"
            yield f"{title:13} {numbers}  {shown(one['room'])}"
    for one in found["mostVersions"]:
        yield f"{'most versions':13} {one['bytes']:12} bytes {one['versions']:6} versions {'':16}  {shown(one['room'])}"
    for name in found["closed"]:
        yield f"closed        {shown(name)}"


def versions(server: Server, room: str) -> Iterator[str]:
    """Yield a line for each version of a document."""
    for version in ask(server, "GET", _path(room, "versions"))["versions"]:
        yield f"{version['time']} {version['bytes']:12} bytes"


def version(server: Server, room: str, when: str, form: str) -> bytes:
    """Return a document as it was, as a Yjs update or as JSON."""
    found = ask(server, "GET", f"{_path(room, 'versions')}/{quote(when, safe=':+')}?format={form}")
    return msgspec.json.encode(found["content"]) if form == "json" else b64decode(found["update"])


def revert(server: Server, room: str, when: str) -> str:
    """Restore a version; return a line that says what was done."""
    done = ask(server, "POST", f"{_path(room, 'versions')}/{quote(when, safe=':+')}/restore")
    if "restored" not in done:
        return "the server works on it still; `versions` shows a new version when it changes the document"
    return f"restored the version of {done['restored']['time']}; before, it was {done['before']['time']}"


def _path(room: str, act: str) -> str:
    return f"/rooms/{room}/{act}"
