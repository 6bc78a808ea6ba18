"""The Python bindings of LevelDB: plyvel, or its fork plyvel-next on Python 3.12 and later.

Both have the same interface and read each other's directories. plyvel has wheels for Python 3.11, plyvel-next for 3.12
to 3.14 on all common platforms. ``pyproject.toml`` makes the same choice. Remove when plyvel has wheels for these
(https://github.com/wbolster/plyvel/issues/164).
"""

import sys

if sys.version_info >= (3, 12):
    import plyvel_next as plyvel
else:
    import plyvel

__all__ = ["plyvel"]
