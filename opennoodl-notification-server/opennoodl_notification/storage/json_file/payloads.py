"""Payloads in a file: the data of one sending to several users is written once, and their records refer to it."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import UNSET, Raw, structs

from ...records import ABSENT, Payload, Record


def without_payload(record: Record) -> Record:
    """Return a record as it is written: without its data, if a payload has that."""
    return record if record.payload_id is UNSET else structs.replace(record, data=ABSENT)


def with_payloads(records: Iterable[Record], payloads: Iterable[Payload]) -> Iterator[Record]:
    """Yield records as they were before they were written.

    Their data is a copy, in place of a view that keeps all that was read.

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
