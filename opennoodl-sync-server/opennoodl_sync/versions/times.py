"""Times of versions as people read and write them: ISO 8601, in UTC."""

from datetime import UTC, datetime

ACCEPTED = "accepted is a time such as 2026-11-30T09:00:00Z, or a date"


def shown(time: int) -> str:
    """Return a time, given in seconds since 1970, for people."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> int:
    """Return the seconds since 1970 of a time; one without a zone is in UTC, and a date is its first second.

    Raises:
        ValueError: it is not a time; the text names the accepted forms.
    """
    try:
        time = datetime.fromisoformat(text)
        in_utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return int(in_utc.timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; {ACCEPTED}") from None
