"""Authentication: tokens, the keys that they are checked with, and the identity that they prove."""
