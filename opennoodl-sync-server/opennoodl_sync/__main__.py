"""The command line: ``python -m opennoodl_sync [command]``."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator

import structlog

from .commands import remote
from .commands.checks import check_documents, repair_documents
from .commands.copies import back_up, directory_of, migrate_documents, restore
from .commands.documents import (
    compact_documents,
    delete_document,
    export_document,
    import_document,
    list_documents,
    read_update,
)
from .commands.stores import shown, with_store
from .commands.versions import export_version, list_versions, revert_document
from .edge.auth.token_command import add_token_command, token
from .edge.command_line import command, counted, parse, show, show_bytes
from .edge.service import main as serve
from .edge.settings import load
from .memory.allocator import keep_large_blocks_apart
from .server import create
from .settings import Settings
from .storage.interface import PersistentStore
from .versions import times

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


async def act(asked: argparse.Namespace, store: PersistentStore) -> None:
    """Carry out one command.

    Raises:
        CommandError: it could not be.
    """
    match asked.command:
        case "list":
            async for listed in list_documents(store):
                if listed.updates is None:
                    show(f"{'damaged':>35}  {shown(listed.name)}")
                else:
                    show(f"{listed.updates:8} updates {listed.size:12} bytes  {shown(listed.name)}")
        case "export":
            show_bytes(await export_document(store, asked.room, asked.format))
        case "import":
            await import_document(store, asked.room, read_update(asked.file))
        case "delete":
            await delete_document(store, asked.room)
        case "versions":
            for version in await list_versions(store, asked.room):
                show(f"{times.shown(version.time)} {version.size:12} bytes")
        case "version":
            show_bytes(await export_version(store, asked.room, asked.when, asked.format))
        case "revert":
            restored, made = await revert_document(store, asked.room, asked.when)
            show(f"restored the version of {times.shown(restored.time)}; before, it was {times.shown(made.time)}")
        case "compact":
            before, after = await compact_documents(store)
            show(f"{counted(before, 'byte')} of updates compacted to {after}")
        case "check":
            faults = [fault async for fault in check_documents(store, deep=asked.deep)]
            show("\n".join(faults) if faults else "all documents are sound")
            if faults:
                sys.exit(1)


def act_at_server(asked: argparse.Namespace, server: remote.Server) -> None:
    """Have a running server carry out one command.

    Raises:
        CommandError: it did not.
    """
    match asked.command:
        case "stats":
            show("\n".join(remote.stats(server)))
        case "versions":
            for line in remote.versions(server, asked.room):
                show(line)
        case "version":
            show_bytes(remote.version(server, asked.room, asked.when, asked.format))
        case "revert":
            show(remote.revert(server, asked.room, asked.when))
        case act:
            show(remote.change_room(server, act, asked.room))


async def show_all(lines: AsyncIterator[str]) -> None:
    """Print lines."""
    async for line in lines:
        show(line)


def main() -> None:
    """Run the server or one command; what keeps it from that is one line on standard error and exit code 1."""
    asked = arguments()
    os.umask(0o077)  # LevelDB makes files at any time; they are their user's alone
    if asked.command in (None, "serve"):
        keep_large_blocks_apart()
        serve(Settings, create)
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the command's
    with command("opennoodl_sync"):
        settings = load(Settings, os.environ)
        if asked.command == "token":
            show(token(settings, asked))
        elif asked.command in REMOTE or getattr(asked, "url", None):
            act_at_server(asked, remote.server(settings, asked.url))
        elif asked.command == "backup":
            show(back_up(directory_of(settings), asked.directory))
        elif asked.command == "restore":
            show(restore(directory_of(settings), asked.directory))
        elif asked.command == "repair":
            asyncio.run(show_all(repair_documents(settings, asked.directory)))
            source = "the database" if settings.database_url else f"PERSIST_DIR {settings.persist_dir}"
            show(f"what can be read is in {asked.directory}; {source} is as it was")
        elif asked.command == "migrate":
            asyncio.run(show_all(migrate_documents(asked.source, asked.target)))
        else:
            may_make = asked.command == "import"
            asyncio.run(with_store(settings, lambda store: act(asked, store), may_make=may_make))


if __name__ == "__main__":
    main()
