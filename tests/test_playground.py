"""The playground's own server: what it serves, with which headers, and how it refuses."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = ("signaling", "sync", "notification")


def serve(**settings: str) -> subprocess.Popen[str]:
    """Start the server on a free port."""
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", **settings}
    command = [sys.executable, str(ROOT / "playground" / "serve.py")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Return the port of a running server, which ends with 0 when it is stopped."""
    process = serve(SYNC_URL="wss://sync.example.org/", FIRST_PORT="5444")
    assert process.stdout is not None
    yield int(process.stdout.readline().rpartition(":")[2])
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def answer(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    """Return the answer to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers, body


def test_the_page_has_a_strict_policy(port: int) -> None:
    """The page loads its own files, and connects to the three servers and to nothing else."""
    status, headers, body = answer(port, "/", Host=f"noodl.example:{port}")
    assert status == 200
    assert "OpenNoodl playground" in body
    assert headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self' ws://noodl.example:5444 wss://sync.example.org ws://noodl.example:5446 "
        "http://noodl.example:5444 https://sync.example.org http://noodl.example:5446",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]


def test_the_page_needs_nothing_from_elsewhere(port: int) -> None:
    """Each file that the page names is served; none is of another host."""
    _, _, body = answer(port, "/")
    files = re.findall(r'(?:src|href)="([^"]+)"', body)
    assert len(files) == 3
    assert [answer(port, urljoin("/", file))[0] for file in files] == [200] * 3


def test_the_addresses_of_the_servers(port: int) -> None:
    """They are on the page's host with the ports from FIRST_PORT on, except for those that a setting names."""
    _, _, body = answer(port, "/config.json", Host="10.0.0.7:4447")
    assert json.loads(body) == {
        "signaling": "ws://10.0.0.7:5444",
        "sync": "wss://sync.example.org",
        "notification": "ws://10.0.0.7:5446",
    }


@pytest.mark.parametrize("server", SERVERS)
def test_each_message_and_code_has_an_anchor(port: int, server: str) -> None:
    """A protocol page has an id for each message, error code and close code of its tables."""
    text = (ROOT / f"opennoodl-{server}-server" / "docs" / "protocol.md").read_text()
    first = re.findall(r"^\| (?:\d[, \d]* \|.*?\| (?:\*server:\* )?)?`([a-z-]+)`", text, re.MULTILINE)
    _, _, body = answer(port, f"/protocol/{server}.html")
    ids = re.findall(r'<a id="([^"]+)">', body)
    assert len(ids) == len(set(ids))
    assert len(first) > 5
    assert set(first) - {name.removeprefix("client-").removeprefix("server-") for name in ids} == set()
    assert {"1001", "1008", "1013"} <= set(ids)


@pytest.mark.parametrize("path", ["/../serve.py", "/../../.env", "/%2e%2e/serve.py", "/nothing", "/dist/app.js"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    """Only the built page and the protocol pages are served."""
    assert answer(port, path)[0] == 404


def test_head_has_no_body(port: int) -> None:
    """HEAD is answered like GET, without the body."""
    status, headers, body = answer(port, "/app.js", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize("host", ["a b", "x; script-src *", "<script>"])
def test_a_host_that_is_none(port: int, host: str) -> None:
    """A host that is no name is refused, since it would become part of the policy."""
    assert answer(port, "/", Host=host)[0] == 400


def test_connections_are_bounded(port: int) -> None:
    """With 64 connections that send nothing, a further one is closed at once, and a place that is free is used."""
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(64)]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as further:
            assert further.recv(1) == b""
        silent.pop().close()
        while True:
            try:
                assert answer(port, "/")[0] == 200
                break
            except (ConnectionError, http.client.RemoteDisconnected):
                pass  # the closed connection has not been noticed yet
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("PORT", "much", "PORT must be a whole number from 0 to 65535, not 'much'."),
        ("SYNC_URL", "https://x", "SYNC_URL must be a URL such as wss://sync.example.org, not 'https://x'."),
        ("SIGNALING_URL", "ws://x; *", "SIGNALING_URL must be a URL such as wss://sync.example.org, not 'ws://x; *'."),
    ],
)
def test_an_invalid_setting_stops_the_start(setting: str, value: str, error: str) -> None:
    """The error is one line that names the setting, its value and what is accepted."""
    process = serve(**{setting: value})
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (1, "", f"The playground cannot start: {error}\n")
