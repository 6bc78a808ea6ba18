"""Commands say in one line why they end, whatever their arguments and their standard streams are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from .harness import PACKAGE, command_line

pytestmark = pytest.mark.slow

TEMPLATE = f"""
import argparse, os, signal, sys
from {PACKAGE}.edge.command_line import CommandError, command, parse, show, show_bytes, standard_input
with command("package"):
    BODY
"""
FULL = "standard output cannot be written: No space left on device"


def run(body: str, **options: Any) -> tuple[int, bytes]:
    """Run a command; return its exit code, and what it wrote to standard error."""
    arguments = options.pop("arguments", [])
    code = [sys.executable, "-c", TEMPLATE.replace("BODY", body), *arguments]
    done = subprocess.run(code, stderr=subprocess.PIPE, check=False, **{"stdout": subprocess.PIPE, **options})
    return done.returncode, done.stderr


def shell(body: str, redirection: str) -> tuple[int, str]:
    """Run a command with standard streams that only a shell makes; return its exit code and standard error."""
    code = ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, TEMPLATE.replace("BODY", body)]
    done = subprocess.run(code, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the end", "before the end"])
@pytest.mark.parametrize("show", ["show(str(number))", "show_bytes(b'%d' % number)"])
def test_closed_output_pipe_is_not_an_error(lines: int, show: str) -> None:
    """A command whose reader has gone ends without an error."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(f"for number in range({lines}): {show}", stdout=writing) == (0, b"")
    finally:
        os.close(writing)


def test_slow_reader_gets_all_output() -> None:
    """A reader that stays to the end gets everything."""
    body = 'show("1"); show_bytes(b"2"); show("3")'
    done = subprocess.run(
        [sys.executable, "-c", TEMPLATE.replace("BODY", body.replace('b"2"', 'b""'))], capture_output=True, check=True
    )
    assert done.stdout == b"1\n3\n"


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the end", "before the end"])
@pytest.mark.parametrize("show", ["show(str(number))", "show_bytes(b'%d' % number)"])
def test_full_disk_is_one_line_and_exit_code_1(lines: int, show: str) -> None:
    """Output that does not fit on the disk is one line and exit code 1."""
    code, error = shell(f"for number in range({lines}): {show}", ">/dev/full")
    assert (code, error) == (1, f"package: {FULL}\n")


@pytest.mark.parametrize("end", ["sys.exit(1)", "raise CommandError('it failed')"])
def test_full_disk_and_an_error(end: str) -> None:
    """So is output of a command that fails as well."""
    assert shell(f"show('1'); {end}", ">/dev/full") == (1, f"package: {FULL}\n")


def test_missing_standard_output_is_reported() -> None:
    """A command without standard output does nothing, and says why."""
    assert shell("sys.stderr.write('done')", ">&-") == (1, "package: standard output is closed\n")


def test_missing_standard_input_is_reported() -> None:
    """A command without standard input says so."""
    assert shell("standard_input()", "<&-") == (1, "package: standard input is closed\n")


def test_unreadable_input_is_one_line_and_exit_code_1() -> None:
    """Standard input that cannot be read is one line and exit code 1."""
    assert shell("standard_input()", "0>/dev/null") == (
        1,
        "package: standard input cannot be read: Bad file descriptor\n",
    )


def test_input_is_read_to_its_end_as_bytes() -> None:
    """Standard input is read to its end, as bytes."""
    assert run("sys.exit(standard_input() != b'\\xff\\n')", input=b"\xff\n") == (0, b"")


def test_output_before_an_error_is_printed() -> None:
    """Output from before an error is printed."""
    body = "show('1'); raise CommandError('it failed')"
    done = subprocess.run([sys.executable, "-c", TEMPLATE.replace("BODY", body)], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"1\n", b"package: it failed\n")


def test_characters_that_the_locale_lacks() -> None:
    """A character that the encoding of standard output lacks is escaped."""
    body = "show('caf\\xe9 \\u2603')"
    done = subprocess.run(
        [sys.executable, "-c", TEMPLATE.replace("BODY", body)],
        env={"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"caf\xe9 \\u2603\n"


def test_file_that_cannot_be_used_is_one_line_and_exit_code_1() -> None:
    """A file is named with what keeps it from being used; an error that names no file is a fault of the code."""
    assert run("open('/proc/self/none')") == (1, b"package: /proc/self/none: No such file or directory\n")
    assert b"Traceback" in run("raise OSError(5, 'a fault')")[1]


def test_interrupt_is_one_line_and_exit_code_1() -> None:
    """Ctrl-C is one line and exit code 1."""
    # In the background of a shell, processes inherit that it is ignored.
    body = "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)"
    assert run(body) == (1, b"package: interrupted\n")


@pytest.mark.parametrize("argument", [b"\xff", b"caf\xe9", b"\xed\xa0\x80"])
def test_arguments_that_are_no_text(argument: bytes) -> None:
    """An argument that is not valid UTF-8 is refused as a usage error."""
    code, error = run("parse(argparse.ArgumentParser())", arguments=[argument])
    assert code == 2
    assert b"is not valid UTF-8" in error
    assert b"Traceback" not in error


@pytest.mark.parametrize(
    ("number", "noun", "several", "text"),
    [
        (0, "document", "", "0 documents"),
        (1, "document", "", "1 document"),
        (2, "document", "", "2 documents"),
        (1, "inbox", "inboxes", "1 inbox"),
        (2, "inbox", "inboxes", "2 inboxes"),
    ],
)
def test_number_has_its_noun(number: int, noun: str, several: str, text: str) -> None:
    """A number stands before the singular or the plural of what it counts."""
    assert command_line.counted(number, noun, several) == text
