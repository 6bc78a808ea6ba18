"""The attacks on the servers, by name, and the answers that an attacker may get."""

from . import (
    binary_bombs,
    encryption,
    floods,
    frames,
    greed,
    intrusion,
    json_bombs,
    logins,
    requests,
    slow,
    tokens,
)
from .attack import ATTACKS, KINDS, Attack

FAMILIES = (slow, requests, frames, floods, json_bombs, binary_bombs, greed, tokens, intrusion, logins, encryption)

__all__ = ["ATTACKS", "FAMILIES", "KINDS", "Attack"]
