"""The format of the JSON file and its journals: its version, and payloads.

The data of one sending to several users is written once, as a payload, and the records refer to it.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import UNSET, Raw, structs

from ...records import ABSENT, Payload, Record, payloads_of

FORMAT = 1
"""The newest version that this release reads, and the one that it writes. Change it with the format."""


class ForeignFileError(ValueError):
    """A file of another program or of a newer release; the text is the evidence."""


def newer(number: int) -> str:
    """Return the error text for a file of a newer version."""
    return f"has format {number} of a newer release; this release reads formats up to {FORMAT}"


def separate(records: Iterable[Record]) -> tuple[list[Record], list[Payload]]:
    """Return records without the data that is in payloads, and the payloads."""
    all_ = list(records)
    shared = [record for record in all_ if record.payload_id is not UNSET]
    if not shared:
        return all_, []
    written = [one if one.payload_id is UNSET else structs.replace(one, data=ABSENT) for one in all_]
    return written, list(payloads_of(shared).values())


def join(records: Iterable[Record], payloads: Iterable[Payload]) -> Iterator[Record]:
    """Yield records with their data from payloads.

    The data is copied, since a view would keep the whole input in memory.

    Raises:
        ValueError: a record has no data.
    """
    known = {payload.id: payload.data.copy() for payload in payloads}
    for record in records:
        yield structs.replace(record, data=_data(record, known))


def _data(record: Record, payloads: Mapping[str, Raw]) -> Raw:
    if record.payload_id is not UNSET:
        if record.payload_id not in payloads:
            raise ValueError(f"the notification {record.id!r} refers to a payload that does not exist")
        return payloads[record.payload_id]
    if record.data is ABSENT:
        raise ValueError(f"the notification {record.id!r} has no `data`")
    return record.data.copy()
