"""Names of files, as settings and commands give them."""

from pathlib import Path

from ..edge.errors import StartError


def named(name: str, text: str) -> Path:
    """Return the file that a text names.

    Args:
        name: what an error calls it.
        text: a path, absolute or from the present directory.

    Raises:
        StartError: it names a directory, or begins with a `~`, which a shell replaces and this server does not. Or it
            cannot be looked at.
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
