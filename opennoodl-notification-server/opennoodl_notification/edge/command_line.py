"""The command line: what all commands share, from their arguments to standard output and the exit code."""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import StartError
from .settings import SettingError


class CommandError(Exception):
    """A command that could not be carried out; the text is one line that says why."""


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number with what it counts: "1 document", "2 documents".

    Args:
        number: how many.
        noun: the singular.
        several: the plural; empty if it is the singular with an "s".
    """
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments; those that are not text end the process with a usage message and exit code 2."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            parser.error(f"{argument!r} is not valid UTF-8")
    return parser.parse_args()


@contextmanager
def command(package: str) -> Iterator[None]:
    """Carry out a command, which prints with `show` and `show_bytes`.

    An error, also one about a file, ends the process with one line on standard error and exit code 1. If the reader of
    the output goes before its end, as ``head`` does, that is no error.

    Args:
        package: named at the start of the line.
    """
    try:
        if sys.stdout is None:
            raise CommandError("standard output is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack characters that a name has
        try:
            yield
        finally:
            with _writing():
                sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (SettingError, StartError, CommandError) as error:
        sys.exit(f"{package}: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"{package}: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(f"{package}: interrupted")


def show(line: str) -> None:
    """Print one line."""
    with _writing():
        sys.stdout.write(line + "\n")


def show_bytes(content: bytes) -> None:
    """Print bytes as they are."""
    with _writing():
        sys.stdout.buffer.write(content)


def standard_input() -> bytes:
    """Return all of standard input.

    Raises:
        CommandError: it cannot be read.
    """
    if sys.stdin is None:
        raise CommandError("standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise CommandError(f"standard input cannot be read: {error.strerror}") from None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Python would try to write the rest as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"standard output cannot be written: {error.strerror}") from None
