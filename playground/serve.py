"""Serves the playground: the built page, the addresses of the three servers, and their protocol pages.

Settings are environment variables: ``HOST``, ``PORT``, and ``SIGNALING_URL``, ``SYNC_URL`` and ``NOTIFICATION_URL``
where the servers are not on the page's host with the ports from ``FIRST_PORT`` on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
SERVERS = ("signaling", "sync", "notification")
"""In order of their ports, which begin with FIRST_PORT."""
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MAX_CONNECTIONS = 64
"""Connections at once, each with a thread; a further one is closed."""
TIMEOUT = 10
"""Seconds that a client may take for a request."""
HOST_NAME = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
URL = re.compile(r"wss?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?")
ROW = re.compile(r"(?<!\\)\|")
CODE = re.compile(r"`([^`]+)`")


def page(server: str, markdown: str) -> str:
    """Return a protocol page as HTML, in which the rows of its messages, error codes and close codes have ids."""
    prefix = ""
    table = False
    fenced = False
    body = []
    for line in markdown.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            body.append("<pre>" if fenced else "</pre>")
            continue
        if line.startswith("|") and not fenced:
            if not table:
                body.append("<table>")
            table = True
            if not set(line) <= set("|- "):
                body.append(row(line, prefix))
            continue
        if table:
            body.append("</table>")
            table = False
        if line.startswith("#") and not fenced:
            title = line.lstrip("#").strip()
            if server != "sync":
                prefix = {"Messages from clients": "client-", "Messages from the server": "server-"}.get(title, "")
            body.append(f"<h2>{escape(title)}</h2>")
        elif not line.startswith("<!--"):
            body.append(inline(line) if line or fenced else "<br><br>")
    title = f"The {server} protocol"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><link rel="stylesheet" href="../protocol.css"><main>{chr(10).join(body)}</main></html>'
    )


def row(line: str, prefix: str) -> str:
    """Return a table row. Its ids are what its first cell names; in the table of sync's messages, the third."""
    cells = [cell.strip() for cell in ROW.split(line)[1:-1]]
    names = CODE.findall(cells[0]) or ([cells[0]] if re.fullmatch(r"\d{4}", cells[0]) else [])
    if re.fullmatch(r"\d+(, \d+)?", cells[0]) and len(cells) == 4:
        names = CODE.findall(cells[2])
    targets = "".join(f'<a id="{escape(prefix + name)}"></a>' for name in names if re.fullmatch(r"[\w-]+", name))
    return (
        "<tr>"
        + "".join(f"<td>{targets if index == 0 else ''}{inline(cell)}</td>" for index, cell in enumerate(cells))
        + "</tr>"
    )


def inline(text: str) -> str:
    """Return a line of Markdown as HTML: code and bold; a link is its text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escape(text, quote=False))
    return CODE.sub(r"<code>\1</code>", text)


def contents(built: Path, root: Path) -> dict[str, tuple[str, bytes]]:
    """Return all that is served, by path, with its type: nothing is read from disk for a request."""
    found = {f"/{file.name}": (TYPES[file.suffix], file.read_bytes()) for file in built.iterdir()}
    found["/"] = found["/index.html"]
    for server in SERVERS:
        text = (root / f"opennoodl-{server}-server" / "docs" / "protocol.md").read_text()
        found[f"/protocol/{server}.html"] = ("text/html", page(server, text).encode())
    return found


def addresses(host: str, settings: dict[str, str]) -> dict[str, str]:
    """Return where the servers are for a page of this host.

    Raises:
        ValueError: A setting is no address of a WebSocket server.
    """
    found = {}
    first = settings.get("FIRST_PORT") or "4444"
    if not (first.isascii() and first.isdigit()):
        raise ValueError(f"FIRST_PORT must be a port, not {first!r}.")
    for port, server in enumerate(SERVERS, int(first)):
        name = f"{server.upper()}_URL"
        url = settings.get(name, "").rstrip("/") or f"ws://{host}:{port}"
        if not URL.fullmatch(url):
            raise ValueError(f"{name} must be a URL such as wss://sync.example.org, not {url!r}.")
        found[server] = url
    return found


def policy(servers: dict[str, str]) -> str:
    """Return the Content-Security-Policy of the page: its own files, and connections to the three servers."""
    connect = [re.sub(r"(://[^/]+).*", r"\1", url) for url in servers.values()]
    connect += [url.replace("ws", "http", 1) for url in connect]
    return "; ".join([
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
        f"connect-src 'self' {' '.join(connect)}", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ])  # fmt: skip


class Server(ThreadingHTTPServer):
    """The HTTP server, with a bound of connections.

    Attributes:
        settings: the environment.
        contents: all that it serves.
    """

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    settings: dict[str, str]
    contents: dict[str, tuple[str, bytes]]

    def __init__(self, host: str, port: int) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if "." in host:
            self.address_family = socket.AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Listen for IPv4, too."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], address: object) -> None:
        """Start a thread for a connection, if there is one left."""
        if self._free.acquire(blocking=False):
            super().process_request(request, address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], address: object) -> None:
        """Answer in the thread."""
        try:
            super().process_request_thread(request, address)
        finally:
            self._free.release()

    def handle_error(self, request: object, address: object) -> None:
        """Ignore a client that has gone; another error is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: Server
    timeout = TIMEOUT
    server_version = "playground"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a file, or with the addresses of the servers."""
        host = re.sub(r":\d*$", "", self.headers.get("Host", "localhost"))
        if not HOST_NAME.fullmatch(host):
            return self._answer(HTTPStatus.BAD_REQUEST, "text/plain", b"The header Host is invalid.\n", {})
        servers = addresses(host, self.server.settings)
        path = self.path.partition("?")[0]
        if path == "/config.json":
            return self._answer(HTTPStatus.OK, "application/json", json.dumps(servers).encode(), servers)
        if path not in self.server.contents:
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"This page does not exist.\n", servers)
        return self._answer(HTTPStatus.OK, *self.server.contents[path], servers)

    def do_HEAD(self) -> None:
        """Answer like GET, without the body."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, servers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy(servers))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log no request: nothing here is worth a line."""


def main(settings: dict[str, str]) -> int:
    """Serve until a signal stops it; return the exit code."""
    host, port = settings.get("HOST") or "::", settings.get("PORT") or "4447"
    try:
        addresses("localhost", settings)
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"PORT must be a whole number from 0 to 65535, not {port!r}.")
        server = Server(host if socket.has_dualstack_ipv6() or host != "::" else "0.0.0.0", int(port))  # noqa: S104
        server.settings, server.contents = settings, contents(HERE / "dist", HERE.parent)
    except (OSError, ValueError) as error:
        print(f"The playground cannot start: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Open the playground: http://localhost:{server.server_port}", flush=True)
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
