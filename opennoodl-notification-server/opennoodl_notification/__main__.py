"""The command line: ``python -m opennoodl_notification [command]``."""

import argparse
from typing import get_args

from .edge.auth.token_command import add_token_command
from .edge.command_line import parse
from .edge.service import main as serve
from .records import Type
from .server import create
from .settings import Settings

MOST = 2**31 - 1
"""Largest number of notifications for `inbox`."""


def arguments() -> argparse.Namespace:
    """Return the parsed arguments; the command is `serve` by default."""
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
    """Parse a number of notifications. ValueError: no store can have so many, or it is not a number."""
    if not 1 <= (value := int(text)) <= MOST:
        raise ValueError
    return value


def main() -> None:
    """Run the server or one command. An expected error is one line on standard error, and exit code 1."""
    asked = arguments()
    if asked.command in (None, "serve"):
        serve(Settings, create)
        return
    from .carry_out import carry_out  # it imports libraries that a server does not need

    carry_out(asked)


if __name__ == "__main__":
    main()
