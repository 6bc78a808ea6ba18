"""The Python examples of `docs/client-tokens.md` and `docs/client-python.md` work as the pages say."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks.servers import websocket_server
from client_guide import python, write_programs
from harness import PATIENCE, StartClient, StartServer
from pycrdt import Array, Doc, Text, create_sync_message, handle_sync_message
from websockets.asyncio.server import ServerConnection

SECRET = "a secret of a test, in 32 characters or more"
AUTH = {"AUTH": "jwt", "AUTH_SECRET": SECRET}
ROOM = "garden-7f3a"
LARGE = "x" * 1_500_000
"""More than the megabyte that the library websockets allows for a message by default."""


@asynccontextmanager
async def running(program: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a program until the end of the block."""
    task = asyncio.create_task(program)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=30)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so; `what` says so in a failure."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"within a minute it did not happen that {what}")


def value(item: str) -> Callable[[Doc[Any]], None]:
    """Return a change that adds an item to the list."""

    def change(doc: Doc[Any]) -> None:
        doc.get("list", type=Array).append(item)

    return change


async def test_a_script_edits_a_document(server: StartServer, client: StartClient) -> None:
    """The change is stored when the function returns; a user who may only read gets the server's reason."""
    sync = await server("sync", **AUTH)
    edit, mint = python("edit"), python("mint")

    def write(text: str, **claims: str) -> str:
        def change(doc: Doc[Any]) -> None:
            doc.get("notes", type=Text).insert(0, text)

        return str(edit(sync.url, ROOM, change, mint(SECRET, {"sub": "ben", **claims})).get("notes", type=Text))

    assert await asyncio.to_thread(write, "world") == "world"
    assert await asyncio.to_thread(write, "Hello ") == "Hello world"
    with pytest.raises(PermissionError, match="only read"):
        await asyncio.to_thread(write, "Goodbye ", access="read")
    await sync.restart()
    ann = await client("guide")
    await ann.call("openToRead", sync=sync.url, room=ROOM, token=mint(SECRET, {"sub": "ann", "access": "read"}))
    await ann.call("untilText", text="Hello world")


async def test_a_script_makes_its_change_once() -> None:
    """A server that sends a large document in two answers is told of the change once, and waited for."""
    acknowledged = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal acknowledged
        stored: Doc[Any] = Doc()
        await connection.send(create_sync_message(stored))
        answers = 0
        async for message in connection:
            assert isinstance(message, bytes)
            answer = handle_sync_message(message[1:], stored)
            if answer is not None:
                await connection.send(answer)
                await connection.send(answer)
                answers += 1
                continue
            acknowledged += 1
            await connection.send(bytes([100, acknowledged]))

    edit = python("edit")
    async with websocket_server(handle, subprotocols=["yjs"]) as url:
        doc = await asyncio.wait_for(asyncio.to_thread(edit, url, ROOM, value("Milk")), 30)
    assert doc.get("list", type=Array).to_py() == ["Milk"]
    assert acknowledged == 2  # the answer to the server's question, and the change


async def test_a_live_document_returns_to_a_server(server: StartServer) -> None:
    """A change that was made while the server was away is stored when it is back, and large messages arrive."""
    sync = await server("sync")
    edit = python("edit")
    await asyncio.to_thread(edit, sync.url, ROOM, value(LARGE))
    live = python("Document")(sync.url, ROOM)
    items = live.doc.get("list", type=Array)
    async with running(live.run()):
        await asyncio.wait_for(live.loaded.wait(), 30)
        assert items.to_py() == [LARGE]
        items.append("before")
        assert not live.saved.is_set()
        await asyncio.wait_for(live.saved.wait(), 30)
        await sync.stop()
        await until(lambda: not live.loaded.is_set(), "the loss is noticed")
        items.append("offline")
        await sync.start()
        await asyncio.wait_for(live.saved.wait(), 30)
        await asyncio.to_thread(edit, sync.url, ROOM, value("after"))
        await until(lambda: len(items) == 4, "the change of another client arrives")
    assert items.to_py()[1:] == ["before", "offline", "after"]
    stored = await asyncio.to_thread(edit, sync.url, ROOM, lambda _: None)
    assert stored.get("list", type=Array).to_py() == items.to_py()


async def test_a_live_document_gets_another_token(server: StartServer) -> None:
    """A program with a refused token asks for the next one; without `get_token` it ends with the server's reason."""
    sync = await server("sync", **AUTH)
    mint, create = python("mint"), python("Document")
    tokens = [mint(SECRET, {"sub": "ben"}, seconds=-3600), mint(SECRET, {"sub": "ben"})]

    async def get_token() -> str:
        return str(tokens.pop(0))

    reports: list[str] = []
    live = create(sync.url, ROOM, get_token, reports.append)
    async with running(live.run()):
        await asyncio.wait_for(live.saved.wait(), 60)
    assert "expired" in reports[0]
    assert tokens == []
    with pytest.raises(Exception, match="requires authentication"):
        await asyncio.wait_for(create(sync.url, ROOM, report=reports.append).run(), 60)


async def test_an_inbox_gets_the_changes_alone_after_a_loss(server: StartServer) -> None:
    """A program has all pages of a long list, then what it missed, and what another device has read."""
    notification = await server("notification", SENDS_PER_HOUR=0, RATE_LIMIT=0)
    notify, create = python("notify"), python("Inbox")

    async def send(text: str) -> str:
        return str(await asyncio.to_thread(notify, notification.url, "ben", "ann", text))

    for number in range(60):
        await send(str(number))
    saved = ""
    notified: list[str] = []

    def save(memory: object) -> None:
        nonlocal saved
        saved = json.dumps(memory)

    def inbox() -> Any:
        memory = json.loads(saved) if saved else None
        return create(
            notification.url, "ann", memory, save, lambda new: notified.append(new["data"]["text"]), report=id
        )

    first = inbox()
    async with running(first.run()):
        await until(lambda: len(notified) == 60, "all pages arrive")
        assert sorted(map(int, notified)) == list(range(60))
        await notification.stop()
        await until(lambda: not first.up_to_date, "the loss is noticed")
        await notification.start()
        await send("after a restart of the server")
        await until(lambda: len(notified) == 61, "the missed notification arrives")
    missed = await send("after the program's end")
    second = inbox()
    applied: list[str] = []
    apply = second.apply

    def watch(message: dict[str, Any], known: set[str]) -> object:
        applied.append(message["type"])
        return apply(message, known)

    second.apply = watch
    async with running(second.run()):
        await until(lambda: len(notified) == 62, "the notification that came meanwhile arrives")
        assert applied == ["authenticated", "notification", "up-to-date"]
        assert json.loads(saved)["notifications"][missed]["read"] is False
    assert notified[60:] == ["after a restart of the server", "after the program's end"]


async def test_a_token_of_python(server: StartServer, client: StartClient) -> None:
    """A token that the Python example makes is accepted, and an inbox without one ends with the server's reason."""
    notification = await server("notification", **AUTH)
    token = python("mint")(SECRET, {"sub": "ben"})
    device = await client("guide")
    await device.call("openInbox", url=notification.url, user="ann")
    sent = await asyncio.to_thread(python("notify"), notification.url, "ben", "ann", "Look!", token)
    assert sent
    with pytest.raises(RuntimeError, match="token"):
        await asyncio.to_thread(python("notify"), notification.url, "ben", "ann", "Look!", "no token")
    with pytest.raises(PermissionError, match="token"):
        await asyncio.wait_for(python("Inbox")(notification.url, "ann", None, id, id).run(), 30)


async def test_the_program_with_a_bell(server: StartServer, tmp_path: Path) -> None:
    """It prints what arrives; when it is started again, it prints what arrived meanwhile and nothing twice."""
    notification = await server("notification")
    write_programs(tmp_path, notification=notification.url)
    notify = python("notify")
    for text in ("first", "second"):
        await asyncio.to_thread(notify, notification.url, "ben", "ann", text)
        bell = await asyncio.create_subprocess_exec(
            sys.executable, "bell.py", "ann", "memory.json", cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        assert bell.stdout is not None
        line = (await asyncio.wait_for(bell.stdout.readline(), 60)).decode()
        assert line == f'ben mention {{"text": "{text}"}}\n'
        bell.terminate()
        rest, _ = await asyncio.wait_for(bell.communicate(), PATIENCE)
        assert rest == b""
