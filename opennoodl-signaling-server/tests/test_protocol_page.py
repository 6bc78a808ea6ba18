"""`docs/protocol.md` says what the server does."""

from __future__ import annotations

import json
import re

import pytest
from opennoodl_signaling import messages, session
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.rooms.rooms import MAX_METADATA, REPLACED
from opennoodl_signaling.server import create
from opennoodl_signaling.settings import Settings
from websockets.asyncio.client import connect

from .edge.harness import request
from .package.dialogue import dialogues, play, record
from .package.documents import ROOT, closing_codes, compare, declared_fields, documented_fields, page, rows, section

PAGE = page("docs/protocol.md")
ERRORS = {cells[0].strip("`"): cells[1] for cells in rows(section(PAGE, "Errors"))}


def test_client_messages_table_is_complete() -> None:
    """Every message that a client may send stands in the table with its fields and their types."""
    compare(documented_fields(section(PAGE, "Messages from clients")), declared_fields(messages.decode.names))


def test_messages_from_the_server() -> None:
    """Every message that the server sends stands in the table with its fields and their types."""
    kinds = (*messages.Outgoing.__args__, messages.SignalLost)  # type: ignore[attr-defined]  # of a union
    compare(documented_fields(section(PAGE, "Messages from the server")), declared_fields(kinds))


def test_objects_table_is_complete() -> None:
    """Every object within a message stands in the table with its fields and their types."""
    kinds = (messages.PeerInfo, messages.IceServer, session.SessionChange, session.FeaturesChange)
    compare(documented_fields(section(PAGE, "Objects")), declared_fields(kinds))


def test_error_codes_table_is_complete() -> None:
    """Every error code stands in the table with its meaning."""
    compare({code: meaning for code, meaning in ERRORS.items() if not code.isdigit()}, messages.ERRORS)


def test_close_codes_table_is_complete() -> None:
    """Every code that closes a connection stands in the table."""
    compare({code for code in ERRORS if code.isdigit()}, closing_codes())
    assert str(REPLACED) in ERRORS


def test_metadata_limit_is_documented() -> None:
    """The page names the size of metadata."""
    assert f"at most {MAX_METADATA:,} bytes" in PAGE


@pytest.mark.parametrize("text", dialogues(PAGE), ids=range(len(dialogues(PAGE))))
async def test_recorded_dialogue_is_what_the_server_sends(text: str) -> None:
    """The server sends the frames that the page shows."""
    await play(text, service())


async def test_session_preview_is_as_documented() -> None:
    """A preview is as docs/http.md shows it."""
    found = re.search(r"```json\n(.*?)```", page("docs/http.md"), flags=re.DOTALL)
    assert found is not None
    example = json.loads(found[1])
    join = {"room": example["roomId"], "peerId": "a1", "userId": "ann", "metadata": {"name": "Ann"}}
    session = {"title": example["title"], "maxParticipants": example["maxParticipants"]}
    running = service()
    await running.start()
    try:
        async with connect(f"ws://127.0.0.1:{running.port}/", proxy=None) as ann:
            await ann.send(json.dumps({"type": "join", **join, "session": session}))
            await ann.recv()
            answer = await request(running.port, f"GET /session/{example['roomId']}/info")
    finally:
        await running.stop()
    shown = json.loads(answer.body)
    assert list(shown) == list(example)
    assert shown | {"duration": 0, "createdAt": example["createdAt"]} == example


def service() -> Service:
    """Return a server with the settings that the page names, not started yet."""
    return create(Settings(host="127.0.0.1", port=0, stun_urls="stun:stun.example.org:3478"))


def main() -> None:
    """Record the page anew: `python -m tests.test_protocol_page`."""
    record(ROOT / "docs" / "protocol.md", service)


if __name__ == "__main__":
    main()
