"""The recipes of docs/proxies.md, each in its proxy."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attacks.certificate import certify
from harness import HERE, PATIENCE, Process

DOMAIN = "noodl.example"
HOSTS = {"signaling": "signal", "sync": "sync", "notification": "notify"}
PATHS = {"signaling": "/signaling", "sync": "/sync", "notification": "/notifications"}
PORTS = {"signaling": 4444, "sync": 4445, "notification": 4446}
UNUSED = 9
"""A port without a listener."""
START = 2 * PATIENCE
"""Time limit for the start, in seconds: if Caddy fails to make a certificate, it tries again after a minute."""

# The logs of a package's default configuration: a recipe must switch logs off itself.
NGINX = """
pid nginx.pid;
error_log stderr info;
events {}
http {
    access_log /dev/stdout;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""
HAPROXY = """
global
    log stdout format raw local0
defaults
    log global
    option httplog
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a free port, outside of the system's range for port 0, so that no other process is given it."""
    while True:
        port = random.randrange(26_100, 32_000)  # noqa: S311
        with socket.socket(type=kind) as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class Recipe:
    """A configuration of a proxy.

    Args:
        program: the proxy.
        heading: the heading of the recipe in docs/proxies.md; None for deploy/Caddyfile.
        hosts: whether the servers have host names; otherwise they have paths.
        keeps_prefix: whether the sync server needs the setting for its prefix.
    """

    def __init__(self, program: str, heading: str | None, *, hosts: bool, keeps_prefix: bool = False) -> None:
        self.program = program
        self.hosts = hosts
        self.settings: Mapping[str, str] = {"PATH_PREFIX": "/sync"} if keeps_prefix else {}
        self._heading = heading

    @property
    def installed(self) -> bool:
        """Whether the proxy is installed."""
        return shutil.which(self.program) is not None

    def __str__(self) -> str:
        return "-".join(
            [*(["compose"] if self._heading is None else []), self.program, "hosts" if self.hosts else "paths"]
        )

    def room(self, name: str) -> str:
        """Return the room's name as the sync server receives it.

        When Caddy removes a prefix, it encodes some characters if the path has no percent sign.
        """
        if self._heading is None and not self.hosts and "%" not in name:
            return name.replace("'", "%27").replace("!", "%21")
        return name

    def text(self, ports: Mapping[str, int]) -> str:
        """Return the configuration for servers on these ports."""
        if self._heading is None:
            return (HERE.parent / "deploy/Caddyfile").read_text()
        page = (HERE.parent / "docs/proxies.md").read_text()
        section = page.partition(f"\n### {self._heading}\n")[2].partition("\n### ")[0]
        blocks = re.findall(r"^```\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
        text: str = blocks[0 if self.hosts else 1]
        kinds = {str(port): kind for kind, port in PORTS.items()}
        # In one pass, since the new port of one server may be the default of another one.
        return re.sub(r"(127\.0\.0\.1:)(\d+)\b", lambda at: at[1] + str(ports[kinds[at[2]]]), text)


RECIPES = [
    Recipe("caddy", None, hosts=False),
    Recipe("caddy", None, hosts=True),
    Recipe("caddy", "Caddy", hosts=True),
    Recipe("nginx", "nginx", hosts=True),
    Recipe("nginx", "nginx", hosts=False, keeps_prefix=True),
    Recipe("haproxy", "HAProxy", hosts=True),
    Recipe("haproxy", "HAProxy", hosts=False, keeps_prefix=True),
]


class ReverseProxy(Process):
    """A proxy with one of the recipes.

    Args:
        recipe: its configuration.
        folder: the folder for its files.
        ports: the ports of the running servers; the proxy cannot reach the others.

    Attributes:
        port: the port of the proxy.
        authority: the file with the certificate authority of its certificate.
    """

    def __init__(self, recipe: Recipe, folder: Path, ports: Mapping[str, int]) -> None:
        self.port = free_port()
        self._recipe = recipe
        self._folder = folder
        self._ports = {kind: ports.get(kind, UNUSED) for kind in PORTS}
        self._environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.authority = folder / "certificate.pem"
        super().__init__(recipe.program, self._prepare(recipe.text(self._ports)), folder)

    def url(self, kind: str) -> str:
        """Return the URL of a server for clients."""
        if self._recipe.hosts:
            return f"wss://{HOSTS[kind]}.{DOMAIN}:{self.port}"
        return f"wss://{DOMAIN}:{self.port}{PATHS[kind]}"

    def context(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the proxy's certificate."""
        return ssl.create_default_context(cafile=self.authority)

    def _prepare(self, text: str) -> list[str]:
        """Write the configuration, changed for this machine; return the command."""
        file = self._folder / "configuration"
        if self._recipe.program == "caddy":
            own = f"local_certs\nskip_install_trust\nadmin off\nauto_https disable_redirects\nhttps_port {self.port}\n"
            file.write_text(text.replace("{\n", "{\n" + own, 1))
            self.authority = self._folder / "caddy/pki/authorities/local/root.crt"
            folders = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(self._folder))
            places = {kind.upper(): f"127.0.0.1:{port}" for kind, port in self._ports.items()}
            self._environment |= {**folders, **places, "DOMAIN": DOMAIN}
            return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
        files = certify(self._folder, DOMAIN, *(f"{host}.{DOMAIN}" for host in HOSTS.values()))
        if self._recipe.program == "nginx":
            text = text.replace("listen 443", f"listen 127.0.0.1:{self.port}")
            text = re.sub(r"/etc/letsencrypt/\S+/fullchain.pem", files["TLS_CERT"], text)
            text = re.sub(r"/etc/letsencrypt/\S+/privkey.pem", files["TLS_KEY"], text)
            file.write_text(NGINX + text.replace("/var/log/nginx/error.log", "stderr") + "}\n")
            return ["nginx", "-p", str(self._folder), "-c", str(file), "-g", "daemon off;"]
        pem = self._folder / "noodl.pem"
        pem.write_text("".join(Path(files[name]).read_text() for name in ("TLS_CERT", "TLS_KEY")))
        text = text.replace("bind :443", f"bind 127.0.0.1:{self.port}").replace("/etc/haproxy/noodl.pem", str(pem))
        file.write_text(HAPROXY + text)
        return ["haproxy", "-db", "-f", str(file)]

    async def start(self) -> None:
        """Start the proxy, and wait until it has a certificate for each of its names."""
        await self._start(stdin=asyncio.subprocess.DEVNULL, env=self._environment)
        names = [f"{host}.{DOMAIN}" for host in HOSTS.values()] if self._recipe.hosts else [DOMAIN]
        async with asyncio.timeout(START):
            for name in names:
                while not await self._shows_certificate(name):
                    assert self.running, self.tail()
                    await asyncio.sleep(0.05)

    async def _shows_certificate(self, name: str) -> bool:
        if not self.authority.exists():
            return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context(), server_hostname=name)
        except (OSError, ssl.SSLError):
            return False
        writer.close()
        return True

    async def close(self) -> None:
        """End the proxy after a test."""
        if self.running:
            await self._end(signal.SIGTERM, PATIENCE)
