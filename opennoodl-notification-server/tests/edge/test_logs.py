"""Logs are lines for collectors or for people, and give no secret away."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog

from .conftest import Configure, Connect, OpenRaw, Serve
from .harness import HANDSHAKE, TEXT, authenticator, github, request
from .issuer import Loopback


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged, from JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_log_has_one_object_a_line(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON, every event is an object on a line of its own, with level, time and fields."""
    configure("info", "json")
    structlog.get_logger().info("hello", number=1, text="two\nlines")
    (line,) = lines(capsys)
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert line == {"event": "hello", "level": "info", "number": 1, "text": "two\nlines"}


def test_standard_library_logs_look_the_same(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Log lines of libraries through the standard library have the same format."""
    configure("info", "json")
    logging.getLogger("some.library").warning("count is %d", 3)
    (line,) = lines(capsys)
    assert (line["event"], line["level"]) == ("count is 3", "warning")
    assert line["timestamp"].endswith("Z")


def test_text_log_has_no_colors_without_a_terminal(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """For people, an event is a line of text, without colors where nobody looks at a terminal."""
    configure("info", "text")
    structlog.get_logger().info("hello", number=1)
    logging.getLogger("some.library").warning("count is %d", 3)
    first, second = capsys.readouterr().out.splitlines()
    assert "hello" in first
    assert "number=1" in first
    assert "count is 3" in second
    assert "\x1b" not in first + second


@pytest.mark.parametrize("form", ["json", "text"])
def test_log_event_is_always_one_line(configure: Configure, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Whatever is in an event, ours or another library's, it is one line, which does not speak to the terminal."""
    configure("info", form)
    structlog.get_logger().info("a\nb", text="c\n\x1b[31md")
    logging.getLogger("library").error("a\r\n%s", "b\x1b]0;c\x07\u2028d")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert not set(out) & set("\r\x1b\x07")


@pytest.mark.parametrize("form", ["json", "text"])
def test_events_below_the_level_are_hidden(configure: Configure, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Events below the level are hidden, from any logger."""
    configure("warning", form)
    structlog.get_logger().info("quiet")
    logging.getLogger("some.library").info("quiet")
    structlog.get_logger().warning("loud")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_second_configuration_replaces_the_first(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Configuring again replaces what was configured: no line appears twice."""
    configure("info", "text")
    configure("info", "json")
    logging.getLogger("some.library").warning("once")
    assert len(lines(capsys)) == 1


def test_exception_is_part_of_its_json_event(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON, an exception is in the object of its event, not on lines of its own."""
    configure("info", "json")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("some.library").exception("it failed")
    (line,) = lines(capsys)
    assert line["event"] == "it failed"
    assert "ValueError" in json.dumps(line["exception"])


async def test_request_lines_are_never_logged(
    configure: Configure, serve: Serve, raw: OpenRaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """No request line is logged even at debug: it holds room names and tokens."""
    configure("debug", "json")
    running = await serve()
    client = await raw(running, handshake=False)
    await client.upgrade("/?token=SECRET")
    await client.send_frame(TEXT, b"SECRET")
    await client.frame()
    await request(running.port, "GET /SECRET?token=SECRET", "Authorization: SECRET")
    await request(running.port, "GET /SECRET", *HANDSHAKE.split("\r\n")[1:-1])
    client.sock.close()
    await running.stop()
    logged = capsys.readouterr().out
    assert "listening" in logged
    assert "SECRET" not in logged


async def test_requests_to_github_are_never_logged(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """No question to GitHub is logged even at debug: there is one for each user."""
    configure("debug", "json")
    api = Loopback()
    await api.start()
    api.answer = (200, {"login": "ann"})
    hub = github.GitHub(api.url)
    await hub.identify("SECRET", "192.0.2.1")
    await hub.close()
    await api.stop()
    assert lines(capsys) == []


@pytest.mark.parametrize("form", ["json", "text"])
async def test_failure_report_does_not_hold_the_message(
    configure: Configure, serve: Serve, raw: OpenRaw, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """The report of a message that could not be handled names the exception, and does not hold the message."""
    configure("info", form)
    client = await raw(await serve())
    await client.send_frame(TEXT, b"raise for SECRET")
    await client.frame()
    logged = capsys.readouterr().out
    assert "RuntimeError" in logged
    assert "SECRET" not in logged


async def test_service_logs_start_drain_and_stop(
    configure: Configure, serve: Serve, client: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service logs where it listens, that it drains and that it has stopped, and no line a connection."""
    configure("info", "json")
    running = await serve()
    connected = await client(running)
    await connected.close()
    await running.stop()
    logged = lines(capsys)
    assert [line["event"] for line in logged] == [authenticator.OPEN, "listening", "draining", "stopped"]
    assert logged[0]["level"] == "warning"
    assert logged[1]["port"] == running.port


async def test_missing_audience_is_warned_of_once(
    configure: Configure, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that accepts an issuer's tokens for other applications too warns of it at its start, once."""
    configure("warning", "json")
    await serve(auth="jwt", auth_jwks_url="https://issuer.example/jwks")
    assert [line["event"] for line in lines(capsys)] == [authenticator.ANY_AUDIENCE]
