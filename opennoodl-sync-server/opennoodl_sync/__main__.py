"""The command line: ``python -m opennoodl_sync [command]``."""

import argparse
import os

from .edge.auth.token_command import add_token_command
from .edge.command_line import parse
from .edge.service import main as serve
from .memory.allocator import keep_large_blocks_apart
from .server import create
from .settings import Settings

URL = "ask the running server at this http:// or https:// URL"
REMOTE = {
    "kick": "disconnect the clients of a room, at a running server",
    "close": "disconnect the clients of a room, and let nobody in until it is opened",
    "open": "let clients into a closed room again",
    "stats": "show which rooms of a running server are largest, busiest, closed, or have most versions",
}
"""Commands that a running server carries out."""
WHEN = "the newest version up to then: a time as `versions` shows it, or a date"


def arguments() -> argparse.Namespace:
    """Return what was asked for; `serve` if nothing was."""
    parser = argparse.ArgumentParser(
        prog="python -m opennoodl_sync",
        description="OpenNoodl's sync server. Settings come from the environment; the commands other than `serve`, "
        "`token` and `backup` work on PERSIST_DIR while no server runs on it, or on DATABASE_URL beside servers.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="run the server (the default)")
    commands.add_parser("list", help="show every document: updates, bytes, name")
    export = commands.add_parser("export", help="write a document to standard output")
    export.add_argument("room")
    export.add_argument("--format", choices=("update", "json"), default="update", help="a Yjs update, or JSON to read")
    import_ = commands.add_parser("import", help="merge a Yjs update into a document")
    import_.add_argument("room")
    import_.add_argument("file", help="the update; - for standard input")
    delete = commands.add_parser("delete", help="delete a document")
    delete.add_argument("room")
    versions = commands.add_parser("versions", help="show every version of a document: time, bytes")
    versions.add_argument("room")
    versions.add_argument("--url", help=URL)
    version = commands.add_parser("version", help="write a document as it was to standard output")
    version.add_argument("room")
    version.add_argument("when", help=WHEN)
    version.add_argument("--format", choices=("update", "json"), default="update", help="a Yjs update, or JSON to read")
    version.add_argument("--url", help=URL)
    revert = commands.add_parser("revert", help="change a document into what it was")
    revert.add_argument("room")
    revert.add_argument("when", help=WHEN)
    revert.add_argument("--url", help=URL)
    for name, help_ in REMOTE.items():
        at_server = commands.add_parser(name, help=help_)
        at_server.set_defaults(at_server=True)
        if name != "stats":
            at_server.add_argument("room")
        at_server.add_argument("--url", help=f"{URL} (default: localhost:PORT)")
    commands.add_parser("compact", help="merge every document's updates into one")
    check = commands.add_parser("check", help="say what is wrong with the data; exit code 1 if anything is")
    check.add_argument(
        "--deep", action="store_true", help="also let pycrdt integrate every document, which takes longer"
    )
    repair = commands.add_parser("repair", help="write what can be read of damaged data into a new directory")
    repair.add_argument("directory", help="the new directory")
    backup = commands.add_parser("backup", help="copy all documents into a new directory; a server may be running")
    backup.add_argument("directory", help="the new directory")
    restore_ = commands.add_parser("restore", help="copy a backup into PERSIST_DIR, which must be empty")
    restore_.add_argument("directory", help="the backup")
    migration = commands.add_parser("migrate", help="copy all documents from one store to another")
    places = "a directory, or a URL as in DATABASE_URL"
    migration.add_argument("--from", dest="source", required=True, metavar="PLACE", help=places)
    migration.add_argument("--to", dest="target", required=True, metavar="PLACE", help=places)
    add_token_command(commands)
    return parse(parser)


def main() -> None:
    """Run the server or one command; what keeps it from that is one line on standard error and exit code 1."""
    asked = arguments()
    os.umask(0o077)  # LevelDB makes files at any time; they are their user's alone
    if asked.command in (None, "serve"):
        keep_large_blocks_apart()
        serve(Settings, create)
        return
    from .commands.carry_out import carry_out  # it has libraries that a server does without

    carry_out(asked)


if __name__ == "__main__":
    main()
