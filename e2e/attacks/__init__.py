"""The attacks on the servers, by name, and the answers that an attacker may get."""

from . import (
    floods,
    frames,
    github_tokens,
    http_requests,
    json_messages,
    many_objects,
    permissions,
    slow_clients,
    tls,
    tokens,
    updates,
)
from .attack import ATTACKS, KINDS, Attack

FAMILIES = (
    slow_clients,
    http_requests,
    frames,
    floods,
    json_messages,
    updates,
    many_objects,
    tokens,
    permissions,
    github_tokens,
    tls,
)

__all__ = ["ATTACKS", "FAMILIES", "KINDS", "Attack"]
