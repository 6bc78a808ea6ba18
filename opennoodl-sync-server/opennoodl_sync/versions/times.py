"""Times of versions as text: ISO 8601, in UTC."""

from datetime import UTC, datetime

ACCEPTED = "accepted is a time such as 2026-11-30T09:00:00Z, or a date"


def shown(time: int) -> str:
    """Return the text of a time, which is given in seconds since 1970."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> int:
    """Return the seconds since 1970 of a text. A time without a zone is in UTC; a date is its first second.

    Raises:
        ValueError: the text is not a time; the message names the accepted forms.
    """
    try:
        time = datetime.fromisoformat(text)
        in_utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return int(in_utc.timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; {ACCEPTED}") from None
