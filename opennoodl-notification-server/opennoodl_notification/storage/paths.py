"""Paths of files from settings and commands."""

from pathlib import Path

from ..edge.errors import StartError


def named(name: str, text: str) -> Path:
    """Return the path of a file.

    Args:
        name: its name in an error.
        text: a path, absolute or relative to the working directory.

    Raises:
        StartError: the path is a directory, cannot be checked, or begins with a `~`, which shells expand and this
            server does not.
    """
    if text.startswith("~"):
        raise StartError(f"{name} begins with `~`, which only a shell replaces; write the whole path")
    path = Path(text)
    try:
        is_directory = text.endswith("/") or path.is_dir()
    except OSError as error:
        raise StartError(f"{name} cannot be opened: {error.strerror}") from None
    if is_directory:
        raise StartError(f"{name} is a directory; name a file in it")
    return path
