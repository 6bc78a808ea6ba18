"""The number of the format of the JSON file and its journals."""

FORMAT = 1
"""The newest one that this release reads, and the one that it writes. Change it with what the two contain."""


class ForeignFileError(ValueError):
    """A file of another program or of a newer release; the text says how that shows."""


def newer(number: int) -> str:
    """Return what is wrong with a file of a newer format."""
    return f"has format {number} of a newer release; this release reads formats up to {FORMAT}"
