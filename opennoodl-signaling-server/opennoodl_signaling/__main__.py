"""The command line: ``python -m opennoodl_signaling [command]``."""

import argparse
import os

from .edge.auth.token_command import add_token_command, token
from .edge.command_line import command, parse, show
from .edge.service import main as serve
from .edge.settings import load
from .server import create
from .settings import Settings


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m opennoodl_signaling",
        description="OpenNoodl's signaling server. Settings come from the environment.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="run the server (the default)")
    add_token_command(commands)
    return parse(parser)


def main() -> None:
    """Run the server or a command. A failure ends the process with one line on standard error and exit code 1."""
    asked = arguments()
    if asked.command in (None, "serve"):
        serve(Settings, create)
        return
    with command("opennoodl_signaling"):
        show(token(load(Settings, os.environ), asked))


if __name__ == "__main__":
    main()
