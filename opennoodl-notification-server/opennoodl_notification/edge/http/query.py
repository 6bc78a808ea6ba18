"""The query of a request's target."""

from urllib.parse import unquote_plus


def value(target: str, name: str) -> str | None:
    """Return the first value of `name` that is not empty, or None.

    Other values are not decoded: a query of 8 KiB can have a thousand, and any client can send it.
    """
    start = f"{name}="
    for field in target.partition("?")[2].split("&"):
        if len(field) > len(start) and field.startswith(start):
            return unquote_plus(field.removeprefix(start))
    return None
