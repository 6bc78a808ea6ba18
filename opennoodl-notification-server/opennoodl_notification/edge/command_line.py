"""The command line: arguments, standard input and output, errors and exit codes of all commands."""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import StartError
from .settings import SettingError


class CommandError(Exception):
    """A command failed; the text is one line with the reason."""


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number with what it counts: "1 document", "2 documents".

    Args:
        number: the number.
        noun: the singular.
        several: the plural; empty if it is the singular with an "s".
    """
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments. An invalid one ends the process with a usage message and exit code 2."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            parser.error(f"{argument!r} is not valid UTF-8")
    return parser.parse_args()


@contextmanager
def command(package: str) -> Iterator[None]:
    """Run a command, which prints with `show` and `show_bytes`.

    A `CommandError`, `SettingError`, `StartError` or an error about a file ends the process with one line on standard
    error and exit code 1. It is no error if the reader closes the pipe early, as ``head`` does.

    Args:
        package: the name at the start of that line.
    """
    try:
        if sys.stdout is None:
            raise CommandError("standard output is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # the locale may lack characters of a name
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
    """Write bytes to standard output."""
    with _writing():
        sys.stdout.buffer.write(content)


def standard_input() -> bytes:
    """Return all bytes of standard input.

    Raises:
        CommandError: standard input is closed or cannot be read.
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
        # At its end, Python would try to write the rest, and report the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"standard output cannot be written: {error.strerror}") from None
