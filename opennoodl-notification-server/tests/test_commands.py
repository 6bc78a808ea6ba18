"""The command line does what its help says, and says in one line why when it cannot."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jwt
import pytest
from opennoodl_notification.__main__ import main
from opennoodl_notification.commands import Proof, inbox, send, stats
from opennoodl_notification.edge.command_line import CommandError
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Query
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .conftest import Device, Serve
from .edge.certificates import certify
from .edge.issuer import SECRET, signed
from .edge.servers import websocket_server
from .harness import record, write
from .places import place
from .process import START

pytestmark = pytest.mark.slow


async def command(*arguments: str, text: str | bytes = "", **environment: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it wrote to standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opennoodl_notification", *arguments),
        env={"PATH": "", **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START):
            output, error = await process.communicate(text.encode() if isinstance(text, str) else text)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), error.decode()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return what runs a command as `command` does, but in this process, which has loaded everything already."""

    def run(*arguments: str, text: str | bytes = "", **environment: str) -> tuple[int, str, str]:
        code: object = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["opennoodl_notification", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode() if isinstance(text, str) else text)))
            patch.setattr(os, "environ", environment)
            try:
                main()
            except SystemExit as end:
                code = end.code
        output, error = capsys.readouterr()
        return (code, output, error) if isinstance(code, int) else (1, output, f"{error}{code}\n")

    return run


CallBeside = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def call_beside(call: Call, capsys: pytest.CaptureFixture[str]) -> CallBeside:
    """Return what does the same in a thread, beside a server of this process, whose log is not of the output."""

    async def run(*arguments: str, **options: Any) -> tuple[int, str, str]:
        with capture_logs():
            capsys.readouterr()
            return await asyncio.to_thread(call, *arguments, **options)

    return run


async def test_send_reaches_devices_and_prints_ids(serve: Serve, device: Device) -> None:
    """`send` reaches the devices of every user it names, and prints the ids in their order."""
    service = await serve()
    ann, bob = await device(service, "ann"), await device(service, "bob")
    data = '{"what": "a new component"}'
    code, output, error = await command(
        *("send", "--to", "ann", "--to", "bob", "--type", "component", "--data", "-"),
        *("--from", "forum", "--url", f"ws://127.0.0.1:{service.port}"),
        text=data,
    )
    assert (code, error) == (0, "")
    for one, id_ in zip((ann, bob), output.split(), strict=True):
        shown = (await one.expect("notification"))["notification"]
        assert (shown["id"], shown["fromUserId"], shown["type"]) == (id_, "forum", "component")
        assert shown["data"] == {"what": "a new component"}


async def test_send_to_the_port_of_the_settings(serve: Serve, call_beside: CallBeside) -> None:
    """Without a URL it is the server on this machine, on the port that is set."""
    service = await serve()
    code, output, _ = await call_beside("send", "--to", "ann", PORT=str(service.port))
    assert (code, len(output.split())) == (0, 1)


async def test_send_with_the_secret(serve: Serve, call_beside: CallBeside) -> None:
    """Where the secret is set, `send` proves by itself that it is a service."""
    service = await serve(auth="jwt", auth_secret=SECRET)
    url = f"ws://127.0.0.1:{service.port}"
    code, output, _ = await call_beside("send", "--to", "ann", "--url", url, AUTH="jwt", AUTH_SECRET=SECRET)
    assert (code, len(output.split())) == (0, 1)


async def test_send_with_a_token(serve: Serve, call_beside: CallBeside) -> None:
    """Elsewhere it proves it with the token that it is given, and says why without a right one."""
    service = await serve(auth="jwt", auth_secret=SECRET)
    words = ("send", "--to", "ann", "--from", "forum", "--type", "mention", "--url", f"ws://127.0.0.1:{service.port}")
    code, output, _ = await call_beside(*words, TOKEN=signed(sub="forum"))
    assert (code, len(output.split())) == (0, 1)


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({}, "set TOKEN, or AUTH_SECRET as the server has it"),
        ({"TOKEN": signed(sub="ann")}, "TOKEN has to be a token of the user that `--from` names"),
        ({"AUTH_SECRET": "w" * 40}, "AUTH_SECRET, AUTH_ISSUER and AUTH_AUDIENCE have to be as the server has them"),
    ],
    ids=["nothing", "another's token", "another secret"],
)
async def test_send_names_the_missing_proof(
    serve: Serve, environment: dict[str, str], hint: str, call_beside: CallBeside
) -> None:
    """An error about a missing proof names the accepted proofs."""
    service = await serve(auth="jwt", auth_secret=SECRET)
    url = f"ws://127.0.0.1:{service.port}"
    code, output, error = await call_beside("send", "--to", "ann", "--from", "forum", "--url", url, **environment)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert error.startswith("opennoodl_notification: the server refuses: ")
    assert error.endswith(f" (unauthorized); {hint}\n")


async def test_send_without_proof_being_the_fault(serve: Serve, call_beside: CallBeside) -> None:
    """An error for another reason does not mention the proof."""
    service = await serve(auth="jwt", auth_secret=SECRET)
    words = ("send", "--to", "ann", "--from", "forum", "--url", f"ws://127.0.0.1:{service.port}")
    _, _, error = await call_beside(*words, TOKEN=signed(sub="forum"))
    assert error.endswith(" may send `system` notifications. (forbidden)\n")


def test_token_command_prints_a_token(call: Call) -> None:
    """`token` prints a token that is good for what was asked for."""
    code, output, _ = call("token", "--user", "ann", "--services", AUTH_SECRET=SECRET)
    claims = jwt.decode(output.strip(), SECRET, algorithms=["HS256"])
    assert (code, claims["sub"], claims["services"]) == (0, "ann", True)


def test_token_command_needs_a_secret(call: Call) -> None:
    """Without a secret there is no token, and one line says why."""
    code, output, error = call("token", "--user", "ann")
    assert (code, output) == (1, "")
    assert error == "opennoodl_notification: AUTH_SECRET is not set; the command `token` signs with it\n"


async def test_send_with_the_same_key_sends_once(serve: Serve, call_beside: CallBeside) -> None:
    """Sent again under the same key, it is the same notification."""
    service = await serve()
    again = ["send", "--to", "ann", "--key", "weekly", "--url", f"ws://127.0.0.1:{service.port}"]
    assert await call_beside(*again) == await call_beside(*again)


async def test_send_shows_the_servers_refusal(serve: Serve) -> None:
    """The command `send` quotes the server's refusal."""
    service = await serve(max_data_size=10)
    with pytest.raises(CommandError, match="data-too-large"):
        await asyncio.to_thread(
            send,
            f"ws://127.0.0.1:{service.port}",
            "forum",
            Proof(None, ""),
            '{"what": "a long text"}',
            targetUserIds=["ann"],
            notificationType="system",
        )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", "ws://127.0.0.1:1"], "cannot be reached"),
        (["--url", "http://127.0.0.1:1"], "not the URL of a server"),
        (["--url", "ws://127.0.0.1:99999"], "not the URL of a server"),
        (["--url", "ws://[::1"], "not the URL of a server"),
        (["--data", "{what"], "not JSON"),
    ],
)
def test_failed_send_is_one_line_and_exit_code_1(call: Call, arguments: list[str], why: str) -> None:
    """A failed send is one line on standard error, and exit code 1."""
    code, output, error = call("send", "--to", "ann", *arguments)
    assert (code, output) == (1, "")
    assert why in error
    assert error.count("\n") == 1


async def test_data_that_is_no_text(call_beside: CallBeside) -> None:
    """Data from standard input that is not UTF-8 is one line."""
    code, output, error = await call_beside("send", "--to", "ann", "--data", "-", text=b'"\xff"')
    assert (code, output, error) == (1, "", "opennoodl_notification: the data is not UTF-8\n")


async def test_send_names_a_server_of_another_kind(call_beside: CallBeside) -> None:
    """A server that talks about something else is named as none of notifications."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()

    async with websocket_server(talk) as url:
        code, output, error = await call_beside("send", "--to", "ann", "--url", url)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert "is not a notification server" in error


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, "Use wss.\n", "Use wss."),
        (404, "<html>\n</html>", "HTTP 404"),
        (503, "", "HTTP 503"),
        (403, "x" * 201, "HTTP 403"),
    ],
)
async def test_send_says_why_a_server_refuses(status: int, body: str, reason: str, call_beside: CallBeside) -> None:
    """`send` shows the sentence of a refused handshake, as where REQUIRE_WSS is set; a page is no sentence."""

    async def talk(connection: ServerConnection) -> None:
        await connection.wait_closed()

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus(status), body)

    async with websocket_server(talk, process_request=refuse) as url:
        code, output, error = await call_beside("send", "--to", "ann", "--url", url)
    assert (code, output, error) == (1, "", f"opennoodl_notification: {url} refuses the connection: {reason}\n")


async def test_inbox_command_shows_notifications(serve: Serve, device: Device, file: Path) -> None:
    """`inbox` shows a user's notifications, the newest first, while the server runs."""
    service = await serve()
    sender, ann = await device(service, "sender\n"), await device(service, "ann")
    first = await sender.notify("ann", data={"text": "\x1b[2J"})
    await sender.notify("ann", kind="mention")
    await ann.send("mark-read", notificationId=first)
    while (await ann.get())["type"] != "notification-updated":
        pass
    new, old = await asyncio.to_thread(inbox, str(file), "ann", Query(50))
    assert "unread" in new
    assert "mention" in new
    assert " read " in old
    assert '"\\u001b[2J"' in old
    assert new.isprintable()
    assert old.isprintable()
    assert await asyncio.to_thread(inbox, str(file), "ann", Query(50, unread=True)) == [new]


@pytest.mark.parametrize("limit", ["0", "-1", "many", "2147483648", "9223372036854775808"])
def test_bad_limit_names_what_is_accepted(call: Call, limit: str) -> None:
    """How many notifications are to be shown is a number from 1 to what every store can hold."""
    code, output, error = call("inbox", "ann", "--limit", limit)
    assert (code, output) == (2, "")
    assert f"invalid number value: '{limit}'" in error


async def test_stats_command_counts_what_is_stored(
    serve: Serve, device: Device, file: Path, call_beside: CallBeside
) -> None:
    """`stats` counts the stored notifications while the server runs."""
    service = await serve()
    sender = await device(service, "sender")
    for user in ("ann", "bob", "ann"):
        await sender.notify(user)
    code, output, _ = await call_beside("stats", DB_FILE=str(file))
    assert code == 0
    assert {name: int(number) for name, number in map(str.split, output.splitlines())} == {
        "notifications": 3,
        "unread": 3,
        "inboxes": 2,
        "deletions": 0,
        "sendings": 0,
    }


def test_largest_limit_is_accepted(call: Call, file: Path) -> None:
    """The largest number is accepted."""
    write(file, record("n", "ann", expires_at="2999-01-01T00:00:00.000Z"))
    code, output, error = call("inbox", "ann", "--limit", "2147483647", DB_FILE=str(file))
    assert (code, output.count("\n"), error) == (0, 1, "")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty database of each kind is."""
    return place(request.param, tmp_path)


async def test_looking_into_a_database(serve: Serve, device: Device, database: str, call_beside: CallBeside) -> None:
    """`inbox` and `stats` look into a database, too, while the server uses it."""
    service = await serve(database_url=database)
    await (await device(service, "sender")).notify("ann", kind="mention")
    code, output, error = await call_beside("inbox", "ann", "--limit", "2147483647", DATABASE_URL=database)
    assert (code, error) == (0, "")
    assert "mention" in output
    assert (await call_beside("stats", DATABASE_URL=database))[1].splitlines()[0].split() == ["notifications", "1"]


def test_commands_report_a_missing_store(file: Path) -> None:
    """To look where nothing is says so, and makes nothing."""
    with pytest.raises(StartError, match="does not exist"):
        stats(str(file))
    assert list(file.parent.iterdir()) == []


async def test_migrate_command_fills_a_database(
    serve: Serve, device: Device, file: Path, tmp_path: Path, call_beside: CallBeside
) -> None:
    """`migrate` brings a file into a database, from which the server goes on."""
    service = await serve()
    sender = await device(service, "sender")
    id_ = await sender.notify("ann")
    database = f"sqlite:///{tmp_path}/notifications.sqlite"
    code, _, error = await call_beside("migrate", "--from", str(file), "--to", database)
    assert code == 1
    assert "in use" in error
    await service.stop()
    code, output, _ = await call_beside("migrate", "--from", str(file), "--to", database)
    assert (code, output) == (0, "complete: 1 notification in 1 inbox\n")
    ann = await device(await serve(database_url=database))
    assert [one["id"] for one in (await ann.authenticate("ann"))["notifications"]] == [id_]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name"])
def test_migrate_refuses_an_unknown_target(call: Call, file: Path, url: str) -> None:
    """`migrate` to an unknown place is refused in one line that names the accepted ones."""
    write(file, record("n"))
    code, output, error = call("migrate", "--from", str(file), "--to", url)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert error.startswith("opennoodl_notification: DATABASE_URL names ")
    assert "accepted are" in error


def test_migrate_into_no_directory(call: Call, file: Path, tmp_path: Path) -> None:
    """`migrate` makes no directory, which would be a mistyped one, and does not take its source for its target."""
    write(file, record("n"))
    code, _, error = call("migrate", "--from", str(file), "--to", str(tmp_path / "nowhere" / "n.json"))
    assert (code, error.count("\n")) == (1, 1)
    assert "nowhere/n.json does not exist" in error
    assert not (tmp_path / "nowhere").exists()
    code, _, error = call("migrate", "--from", str(file), "--to", f"{file.parent}/./{file.name}")
    assert (code, error) == (1, "opennoodl_notification: `--from` and `--to` are the same\n")


async def test_missing_extra_is_named(file: Path) -> None:
    """A database without what it needs is refused in one line that names the extra."""
    block = "import sys; sys.modules['sqlalchemy'] = None; import runpy; sys.argv[1:] = ['stats']; "
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", block + "runpy.run_module('opennoodl_notification', run_name='__main__')"),
        env={"DATABASE_URL": "sqlite:///notifications.sqlite"},
        cwd=file.parent,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(START):
        _, error = await process.communicate()
    assert process.returncode == 1
    assert b"opennoodl-notification-server[sql]" in error
    assert error.count(b"\n") == 1


async def test_unusual_numbers_are_shown_as_sent(
    serve: Serve, device: Device, file: Path, call_beside: CallBeside
) -> None:
    """Numbers that Python does not read, and all that JSON has, are shown as they were sent, without line ends."""
    service = await serve()
    sender = await device(service, "sender")
    long = "1" + "0" * 5000
    message = b'{"type": "invite", "targetUserId": "service", "data": %s}'
    await sender.text(message % f'{{"a":\t[{long}, 1e999,\t"\u007f\u2028😀\\u0000"]}}'.encode())
    await sender.expect("notification-sent")
    (line,) = await asyncio.to_thread(inbox, str(file), "service", Query(50))
    assert line.endswith(f'{{"a": [{long}, 1e999, "\\u007f\\u2028\\ud83d\\ude00\\u0000"]}}')
    assert line.isprintable()
    code, output, error = await call_beside("send", "--to", "ann", PORT=str(service.port))
    assert (code, len(output.split()), error) == (0, 1, "")


async def test_send_uses_tls_where_configured(serve: Serve, tmp_path: Path) -> None:
    """Where the settings name a certificate, the server on this machine is asked over TLS."""
    files = certify(tmp_path / "tls")
    service = await serve(**files.settings)
    trusted = {"TLS_CERT": str(files.certificate), "TLS_KEY": str(files.key), "SSL_CERT_FILE": str(files.certificate)}
    code, output, error = await command("send", "--to", "ann", PORT=str(service.port), **trusted)
    assert (code, len(output.split()), error) == (0, 1, "")


@pytest.mark.parametrize("arguments", [["stats"], ["inbox", "ann"], ["token", "--user", "ann"]])
async def test_output_that_does_not_fit(file: Path, arguments: list[str]) -> None:
    """Output that does not fit on the disk is one line and exit code 1."""
    write(file, record("n", "ann", expires_at="2999-01-01T00:00:00.000Z"))
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "opennoodl_notification", *arguments),
            env={"DB_FILE": str(file), "AUTH_SECRET": SECRET},
            stdout=full,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(START):
            _, error = await process.communicate()
    line = b"opennoodl_notification: standard output cannot be written: No space left on device\n"
    assert (process.returncode, error) == (1, line)
