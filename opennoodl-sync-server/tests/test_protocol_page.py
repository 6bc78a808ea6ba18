"""`docs/protocol.md` says what the server does."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from opennoodl_sync.edge.service import Service
from opennoodl_sync.server import create
from opennoodl_sync.settings import Settings
from opennoodl_sync.y_protocol import ACKNOWLEDGEMENT, DENIED, MAX_NAME, TOKEN, Kind

from .package.dialogue import dialogues, play, record
from .package.documents import ROOT, closing_codes, code, compare, page, rows, section

PAGE = page("docs/protocol.md")
NUMBERS = {next(iter(code(cells[2]))): cells[0] for cells in rows(section(PAGE, "Messages"))}


def test_messages_table_is_complete() -> None:
    """Every message stands in the table, this server's own ones with their numbers."""
    own = {"denied": f"{DENIED}, 0", "acknowledgement": f"{ACKNOWLEDGEMENT}", "token": f"{TOKEN}"}
    compare(set(NUMBERS), {*(kind.label for kind in Kind), *own})
    assert {name: NUMBERS[name] for name in own} == own


def test_close_codes_table_is_complete() -> None:
    """Every code that closes a connection stands in the table."""
    compare({cells[0] for cells in rows(section(PAGE, "Errors"))}, closing_codes())


def test_room_name_limit_is_documented() -> None:
    """The page names the length of a room's name."""
    assert f"1 to {MAX_NAME} printable characters" in PAGE


@pytest.mark.parametrize("text", dialogues(PAGE), ids=range(len(dialogues(PAGE))))
async def test_recorded_dialogue_is_what_the_server_sends(text: str, tmp_path: Path) -> None:
    """The server sends the frames that the page shows."""
    await play(text, service(tmp_path))


def service(folder: Path) -> Service:
    """Return a server that is not started yet."""
    return create(Settings(host="127.0.0.1", port=0, persist_dir=str(folder / "data")))


def main() -> None:
    """Record the page anew: `python -m tests.test_protocol_page`."""
    with TemporaryDirectory() as folder:
        record(ROOT / "docs" / "protocol.md", lambda: service(Path(folder)))


if __name__ == "__main__":
    main()
