"""Runs the commands of the command line other than `serve`."""

import argparse
import os
from typing import Any

from .commands import Proof, back_up, contents, erase, export, inbox, migrate, redate, restore, send, stats
from .edge.auth.token_command import token
from .edge.command_line import CommandError, command, show, show_bytes, standard_input
from .edge.settings import load
from .inbox.store import Query
from .settings import Settings

SECONDS_TO_SEND = 60
"""Seconds for which the token of one `send` is valid."""


def carry_out(asked: argparse.Namespace) -> None:
    """Run one command. An expected error is one line on standard error, and exit code 1."""
    with command("opennoodl_notification"):
        act(asked, load(Settings, os.environ))


def act(asked: argparse.Namespace, settings: Settings) -> None:
    """Run one command.

    Raises:
        CommandError: the command failed.
        StartError: a store cannot be opened.
        SettingError: a necessary setting is wrong.
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
                show(f"{name:13} {number:10}")
        case "migrate":
            moved = migrate(asked.source, asked.target)
            show(f"complete: {contents(moved.notifications, moved.inboxes)}")
        case "backup":
            copied = back_up(settings.place, asked.file)
            show(f"{asked.file} has {contents(copied.notifications, copied.inboxes)}")
        case "restore":
            moved = restore(settings.place, asked.file)
            show(f"complete: {contents(moved.notifications, moved.inboxes)}")


def _proof(settings: Settings, sender: str) -> Proof:
    """Return the token that authenticates `sender`: the given one, or one made with the server's secret."""
    if given := os.environ.get("TOKEN"):
        return Proof(given, "TOKEN has to be a token of the user that `--from` names")
    if not settings.auth_secret:
        return Proof(None, "set TOKEN, or AUTH_SECRET as the server has it")
    from .edge.auth.jwt_tokens import mint  # a server needs it only if AUTH is set

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
