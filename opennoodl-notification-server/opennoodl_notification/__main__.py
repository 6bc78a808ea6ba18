"""The command line: ``python -m opennoodl_notification [command]``."""

import argparse
import os
from typing import Any, get_args

from .commands import Proof, back_up, contents, erase, export, inbox, migrate, redate, restore, send, stats
from .edge.auth.token_command import add_token_command, token
from .edge.command_line import CommandError, command, parse, show, show_bytes, standard_input
from .edge.service import main as serve
from .edge.settings import load
from .inbox.store import Query
from .records import Type
from .server import create
from .settings import Settings

MOST = 2**31 - 1
"""Notifications that `inbox` may be asked for."""
SECONDS_TO_SEND = 60
"""For which the token of one `send` is good."""


def arguments() -> argparse.Namespace:
    """Return what was asked for; `serve` if nothing was."""
    parser = argparse.ArgumentParser(
        prog="python -m opennoodl_notification",
        description="OpenNoodl's notification server. Settings come from the environment.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="run the server (the default)")
    send_ = commands.add_parser("send", help="send a notification through a running server")
    send_.add_argument("--to", action="append", required=True, metavar="USER", help="may be given more than once")
    send_.add_argument("--type", choices=get_args(Type), default="system")
    send_.add_argument("--data", default="{}", metavar="JSON", help="what the notification says; - for standard input")
    send_.add_argument("--from", dest="sender", default="service", metavar="USER")
    send_.add_argument("--key", help="idempotency key: sent once under the same key within 24 hours")
    send_.add_argument("--url", help="URL of the server (default: localhost:PORT)")
    inbox_ = commands.add_parser("inbox", help="show a user's notifications")
    inbox_.add_argument("user")
    inbox_.add_argument("--limit", type=number, default=50, help="how many at most (50)")
    inbox_.add_argument("--unread", action="store_true", help="only unread ones")
    export_ = commands.add_parser("export", help="write all that is stored of a user to standard output, as JSON")
    export_.add_argument("user")
    erase_ = commands.add_parser("erase", help="erase all that is stored of a user, received and sent")
    erase_.add_argument("user")
    commands.add_parser("redate", help="give a date of today to what a wrong clock has dated in the future")
    commands.add_parser("stats", help="show how much is stored")
    migrate_ = commands.add_parser("migrate", help="bring everything from one store to another, with no server running")
    migrate_.add_argument("--from", dest="source", required=True, metavar="FILE|URL")
    migrate_.add_argument("--to", dest="target", required=True, metavar="FILE|URL")
    backup = commands.add_parser("backup", help="copy all that is stored to a new file; a server may be running")
    backup.add_argument("file", help="the new file")
    restore_ = commands.add_parser("restore", help="bring a backup to an empty store, with no server running")
    restore_.add_argument("file", help="the backup")
    add_token_command(commands)
    return parse(parser)


def number(text: str) -> int:
    """Return a number of notifications. ValueError: it is none that a store can hold."""
    if not 1 <= (value := int(text)) <= MOST:
        raise ValueError
    return value


def act(asked: argparse.Namespace, settings: Settings) -> None:
    """Carry out one command.

    Raises:
        CommandError: it could not be.
        StartError: a store cannot be opened.
        SettingError: a setting that it needs is wrong.
    """
    match asked.command:
        case "send":
            url = asked.url or f"{'wss' if settings.tls_cert else 'ws'}://localhost:{settings.port}"
            for id_ in send(url, asked.sender, _proof(settings, asked.sender), **_fields(asked)):
                show(id_)
        case "token":
            show(token(settings, asked))
        case "inbox":
            for line in inbox(settings.place, asked.user, Query(asked.limit, unread=asked.unread)):
                show(line)
        case "export":
            show_bytes(export(settings.place, asked.user))
        case "erase":
            show(erase(settings.place, asked.user, settings.ttl_days))
        case "redate":
            show(redate(settings.place, settings.ttl_days))
        case "stats":
            for name, number in stats(settings.place)._asdict().items():
                show(f"{number:10} {name}")
        case "migrate":
            moved = migrate(asked.source, asked.target)
            show(f"all is there: {contents(moved.notifications, moved.inboxes)}")
        case "backup":
            copied = back_up(settings.place, asked.file)
            show(f"{asked.file} has {contents(copied.notifications, copied.inboxes)}")
        case "restore":
            moved = restore(settings.place, asked.file)
            show(f"all is there: {contents(moved.notifications, moved.inboxes)}")


def _proof(settings: Settings, sender: str) -> Proof:
    """Return what proves `sender` to a server: a given token, or one that is made here with the server's secret."""
    if given := os.environ.get("TOKEN"):
        return Proof(given, "TOKEN has to be a token of the user that `--from` names")
    if not settings.auth_secret:
        return Proof(None, "set TOKEN, or AUTH_SECRET as the server has it")
    from .edge.auth.jwt_tokens import mint  # a server does without, unless AUTH is set

    made = mint(settings, {"sub": sender, "services": True}, SECONDS_TO_SEND)
    return Proof(made, "AUTH_SECRET, AUTH_ISSUER and AUTH_AUDIENCE have to be as the server has them")


def _fields(asked: argparse.Namespace) -> dict[str, Any]:
    fields = {"targetUserIds": asked.to, "notificationType": asked.type, "data": _data(asked.data)}
    return {**fields, "idempotencyKey": asked.key} if asked.key else fields


def _data(argument: str) -> str:
    if argument != "-":
        return argument
    try:
        return standard_input().decode()
    except UnicodeDecodeError:
        raise CommandError("the data is not UTF-8") from None


def main() -> None:
    """Run the server or one command; what keeps it from that is one line on standard error and exit code 1."""
    asked = arguments()
    if asked.command in (None, "serve"):
        serve(Settings, create)
        return
    with command("opennoodl_notification"):
        act(asked, load(Settings, os.environ))


if __name__ == "__main__":
    main()
