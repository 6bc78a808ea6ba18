"""The Lua scripts that Redis runs, each in one step. `common.lua` begins every script."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script, and the digest by which Redis knows it."""

    name: str
    text: str
    digest: str


def _load(name: str) -> Script:
    folder = files(__package__)
    text = (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT = _load("commit")
CONFIRM = _load("confirm")
ENTER = _load("enter")
INVITE = _load("invite")
LOAD = _load("load")
LOOK = _load("look")
PUBLISH = _load("publish")
PUSH = _load("push")
QUIT = _load("quit")
RECOUNT = _load("recount")
SIGNAL = _load("signal")
SUBSCRIBE = _load("subscribe")
SWEPT = _load("swept")
TICK = _load("tick")
UNSUBSCRIBE = _load("unsubscribe")

ALL = (
    COMMIT,
    CONFIRM,
    ENTER,
    INVITE,
    LOAD,
    LOOK,
    PUBLISH,
    PUSH,
    QUIT,
    RECOUNT,
    SIGNAL,
    SUBSCRIBE,
    SWEPT,
    TICK,
    UNSUBSCRIBE,
)
