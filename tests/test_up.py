"""`make up`: what is started, with which settings, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER = f"{sys.executable} -c 'import os, signal; print(os.getpid(), flush=True); signal.pause()'"
Up = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Start what a Procfile says, from a directory of its own."""
    started: list[subprocess.Popen[str]] = []
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and by children as well

    def start(procfile: str, env: str = "", *before: str) -> subprocess.Popen[str]:
        shutil.copy(ROOT / "up.py", tmp_path)
        (tmp_path / "Procfile").write_text(procfile)
        (tmp_path / ".env").write_bytes(env.encode("latin-1"))
        command = [*before, sys.executable, str(tmp_path / "up.py")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    signal.signal(signal.SIGHUP, former)
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def said(process: subprocess.Popen[str], name: str) -> str:
    """Return the next line of the process that a Procfile calls `name`."""
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout if f"{name} " in line and "system" not in line)
    return next(lines).rpartition("| ")[2]


def test_a_setting_may_be_for_one_server(up: Up) -> None:
    """A setting with a server's name in front is for that server, in place of the general one."""
    process = up(
        "sync: echo $RATE_LIMIT $LOG_LEVEL; exit 1", "RATE_LIMIT=5\nSYNC_RATE_LIMIT=7\nLOG_LEVEL=debug\nUP_LOG_LEVEL=no"
    )
    assert said(process, "sync") == "7 debug"
    assert process.wait(30) == 1


def test_server_that_cannot_start(up: Up) -> None:
    """When a server cannot start, the others are stopped, and its exit code is that of all."""
    process = up(f"one: exec {SERVER}\ntwo: exit 1")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "sending SIGTERM to one" in output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_that_ends(up: Up, number: signal.Signals) -> None:
    """A server that ends by itself starts again and a line says so; the others do not notice."""
    process = up(f"one: exec {SERVER}\ntwo: exec {SERVER} two")
    assert process.stdout is not None
    first = int(said(process, "one"))
    os.kill(first, number)
    assert said(process, "one").startswith(f"ended with -{number.value} after")
    second = int(said(process, "one"))
    assert second != first
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.count("sending SIGTERM to two") == 1


def test_server_that_fails_again(up: Up) -> None:
    """A server that fails again and again starts again after longer and longer pauses, also when it cannot start."""
    process = up(f"one: exec {SERVER}\ntwo: test -e started && exit 1; touch started; kill -KILL $$")
    assert said(process, "two").endswith("starts again in 1 s")
    assert re.fullmatch(r"ended with 1 after \d+ s; it starts again in 2 s", said(process, "two"))
    process.terminate()
    assert process.wait(30) == 0


def test_stop_during_a_pause(up: Up) -> None:
    """A stop does not wait for a server that is about to start again."""
    process = up("one: kill -KILL $$")
    for seconds in (1, 2, 5):
        assert said(process, "one").endswith(f"starts again in {seconds} s")
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "started" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_to_be_told_to_stop_is_no_error(up: Up, number: signal.Signals) -> None:
    """However it is told to the terminal's processes, also by closing it: the servers stop, and the exit code is 0."""
    process = up(f"one: exec {SERVER}")
    server = int(said(process, "one"))
    os.killpg(process.pid, number)
    assert process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_a_terminal_that_is_gone(up: Up) -> None:
    """That nothing can be shown any more keeps no server running."""
    process = up(f"one: exec {SERVER}")
    server = int(said(process, "one"))
    assert process.stdout is not None
    process.stdout.close()
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_nohup_is_honoured(up: Up) -> None:
    """A process started under nohup continues without its terminal."""
    speak = 'signal.signal(signal.SIGUSR1, lambda *_: print("still", flush=True))'
    code = f"import os, signal; {speak}; print(os.getpid(), flush=True); signal.pause(); signal.pause()"
    process = up(f"one: exec {sys.executable} -c '{code}'", "", "nohup")
    server = int(said(process, "one"))
    os.killpg(process.pid, signal.SIGHUP)
    os.kill(server, signal.SIGUSR1)
    # What a server says is shown by who has heard the hang-up before.
    assert process.stdout is not None
    shown = next(process.stdout)
    assert shown.rstrip().endswith("still")


def test_the_playground_can_be_left_out(up: Up) -> None:
    """PLAYGROUND=off starts everything but the playground."""
    process = up("sync: echo here; exit 1\nplayground: echo there", "PLAYGROUND=off")
    output, _ = process.communicate(timeout=30)
    assert "here" in output
    assert "there" not in output


def test_the_playground_is_on_or_off(up: Up) -> None:
    """Another value stops the start with one line."""
    process = up("playground: echo there", "PLAYGROUND=no")
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "PLAYGROUND must be on or off, not 'no'.\n")


def test_settings_that_are_no_text(up: Up) -> None:
    """A file of settings that is not UTF-8 stops the start with one line that names it."""
    process = up("sync: echo here", "HOST=\xff")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.count("\n") == 1
    assert ".env cannot be read: 'utf-8' codec can't decode byte 0xff" in output


@pytest.mark.parametrize(("setting", "first"), [("", 4444), ("FIRST_PORT=5444", 5444)])
def test_ports_follow_the_first_one(up: Up, setting: str, first: int) -> None:
    """Servers and playground have the ports from FIRST_PORT on, which are the defaults of the servers."""
    names = ("signaling", "sync", "notification", "playground")
    process = up("\n".join(f"{name}: echo port $PORT; sleep 30" for name in names), setting)
    assert process.stdout is not None
    lines = (line for line in process.stdout if "port " in line)
    ports = dict(re.findall(r"(\w+) +\| port (\d+)", "".join(next(lines) for _ in names)))
    assert ports == {name: str(first + index) for index, name in enumerate(names)}


@pytest.mark.parametrize("setting", ["INSTANCES=0", "INSTANCES=10", "INSTANCES=two", "FIRST_PORT=0"])
def test_unusable_number_stops_the_start(up: Up, setting: str) -> None:
    """Another number of instances, or a first port that there is not, stops the start with one line."""
    name, _, value = setting.partition("=")
    process = up("sync: echo there", setting)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    most = {"INSTANCES": 9, "FIRST_PORT": 65_000}[name]
    assert output == f"{name} must be a whole number from 1 to {most}, not '{value}'.\n"
