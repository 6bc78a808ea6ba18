"""`docs/protocol.md` says what the server does."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from opennoodl_notification import messages
from opennoodl_notification.edge.messages import Error
from opennoodl_notification.edge.service import Service
from opennoodl_notification.records import Notification
from opennoodl_notification.server import MAX_REQUEST_ID, create
from opennoodl_notification.settings import Settings

from .package.dialogue import dialogues, play, record
from .package.documents import ROOT, closing_codes, compare, declared_fields, documented_fields, page, rows, section

PAGE = page("docs/protocol.md")
ERRORS = {cells[0].strip("`"): cells[1] for cells in rows(section(PAGE, "Errors"))}
SENT = (*messages.Answer.__subclasses__(), *messages.Event.__subclasses__(), Error)


def test_client_messages_table_is_complete() -> None:
    """Every message that a client may send stands in the table with its fields and their types."""
    compare(documented_fields(section(PAGE, "Messages from clients")), declared_fields(messages.decode.names))


def test_messages_from_the_server() -> None:
    """Every message that the server sends stands in the table with its fields and their types."""
    kinds = [kind for kind in SENT if kind is not messages.Event]
    compare(documented_fields(section(PAGE, "Messages from the server")), declared_fields(kinds))


def test_objects_table_is_complete() -> None:
    """Every object within a message stands in the table with its fields and their types."""
    compare(documented_fields(section(PAGE, "Objects")), declared_fields([Notification]))


def test_error_codes_table_is_complete() -> None:
    """Every error code stands in the table with its meaning."""
    compare({code: meaning for code, meaning in ERRORS.items() if not code.isdigit()}, messages.ERRORS)


def test_close_codes_table_is_complete() -> None:
    """Every code that closes a connection stands in the table."""
    compare({code for code in ERRORS if code.isdigit()}, closing_codes())


def test_request_id_limit_is_documented() -> None:
    """The page names the size of a `requestId`."""
    assert f"at most {MAX_REQUEST_ID:,} bytes" in PAGE


@pytest.mark.parametrize("text", dialogues(PAGE), ids=range(len(dialogues(PAGE))))
async def test_recorded_dialogue_is_what_the_server_sends(text: str, tmp_path: Path) -> None:
    """The server sends the frames that the page shows."""
    await play(text, service(tmp_path))


def service(folder: Path) -> Service:
    """Return a server that is not started yet."""
    return create(Settings(host="127.0.0.1", port=0, db_file=str(folder / "notifications.json")))


def main() -> None:
    """Record the page anew: `python -m tests.test_protocol_page`."""
    with TemporaryDirectory() as folder:
        record(ROOT / "docs" / "protocol.md", lambda: service(Path(folder)))


if __name__ == "__main__":
    main()
