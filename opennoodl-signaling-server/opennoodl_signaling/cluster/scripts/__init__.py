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


APPEND_ENTRY = _load("append_entry")
BEGIN_MEMBERSHIP = _load("begin_membership")
COMMIT = _load("commit")
CONFIRM = _load("confirm")
END_MEMBERSHIP = _load("end_membership")
FORGET_INSTANCE = _load("forget_instance")
HAS_PLACE = _load("has_place")
INVITE = _load("invite")
LOAD = _load("load")
PUBLISH = _load("publish")
RECOUNT = _load("recount")
RENEW_LEASE = _load("renew_lease")
SIGNAL = _load("signal")
SUBSCRIBE = _load("subscribe")
UNSUBSCRIBE = _load("unsubscribe")

ALL = (
    APPEND_ENTRY,
    BEGIN_MEMBERSHIP,
    COMMIT,
    CONFIRM,
    END_MEMBERSHIP,
    FORGET_INSTANCE,
    HAS_PLACE,
    INVITE,
    LOAD,
    PUBLISH,
    RECOUNT,
    RENEW_LEASE,
    SIGNAL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)
