"""The codes of refusals that only this server has; see `edge.refusals`."""

from .rooms.room import FullError, NoMemoryError
from .storage.interface import UnavailableError

REFUSALS = {
    "room-full": "the room has MAX_ROOM_SIZE clients",
    "room-closed": "an operator has closed the room",
    "kicked": "an operator has disconnected the clients of the room",
    "too-many-documents": "MAX_ROOMS documents are in use",
    "memory-full": "MAX_MEMORY is reached",
    "document-damaged": "the document could not be loaded: an error in the log says why",
    "document-too-large": "the document would exceed MAX_DOCUMENT_SIZE, or has too many deletions",
    "storage-failed": "the document could not be stored: an error in the log says why",
    "storage-unavailable": "the database cannot be reached",
    "document-elsewhere": "another instance has the document, and could not take the client now",
    "not-durable": "the client wants acknowledgements (`ack=true`), and the server stores nothing",
}
"""The codes of refusals that only this server has."""
REFUSAL_OF: dict[type[Exception], str] = {
    FullError: "too-many-documents",
    NoMemoryError: "memory-full",
    UnavailableError: "storage-unavailable",
}
"""The codes of what keeps a document from being opened."""
