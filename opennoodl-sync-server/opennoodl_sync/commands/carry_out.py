"""Carries out the commands of the command line other than `serve`."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator

import structlog

from ..edge.auth.token_command import token
from ..edge.command_line import command, counted, show, show_bytes
from ..edge.settings import load
from ..settings import Settings
from ..storage.interface import PersistentStore
from ..versions import times
from . import remote
from .checks import check_documents, repair_documents
from .copies import back_up, directory_of, migrate_documents, restore
from .documents import (
    compact_documents,
    delete_document,
    export_document,
    import_document,
    list_documents,
    read_update,
)
from .stores import shown, with_store
from .versions import export_version, list_versions, revert_document


def carry_out(asked: argparse.Namespace) -> None:
    """Carry out one command; what keeps it from that is one line on standard error and exit code 1."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the command's
    with command("opennoodl_sync"):
        settings = load(Settings, os.environ)
        if asked.command == "token":
            show(token(settings, asked))
        elif getattr(asked, "at_server", False) or getattr(asked, "url", None):
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
