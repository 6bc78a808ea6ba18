"""What somebody does who wants to get in or to take a server down, by name, and what that gives them."""

from . import binary_bombs, floods, frames, greed, json_bombs, requests, slow
from .attack import ATTACKS, KINDS, Attack

__all__ = ["ATTACKS", "KINDS", "Attack", "binary_bombs", "floods", "frames", "greed", "json_bombs", "requests", "slow"]
