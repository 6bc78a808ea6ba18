"""A long session: two Yjs clients with undo write 100,000 edits; then a newcomer comes, and another after a restart."""

import asyncio
from asyncio.subprocess import PIPE
from typing import Any

import msgspec

from .outcome import Metric, Outcome, measured
from .servers import HERE, Server, ServerError, node

METRICS = (
    Metric("seconds", "edit time s", digits=1),
    Metric("server_cpu_seconds", "server CPU s", digits=1),
    Metric("newcomer", "newcomer ms"),
    Metric("restarted", "newcomer after a restart ms"),
    Metric("rss", "server RSS MiB"),
    Metric("rss_restarted", "RSS after a restart MiB"),
    Metric("stored", "stored KiB", more=None),
)
ROOM = "session"


async def long(server: Server, *, edits: int, limit: float) -> Outcome:
    """Let two clients make `edits` together, and read what a newcomer waits for and what the server needs.

    Args:
        server: under test.
        edits: insertions, deletions, undo and redo of both clients.
        limit: seconds that each step may take.
    """
    outcome = Outcome()
    with measured(server) as usage:
        written = await _clients(limit, "write", server.url(ROOM), str(edits))
    outcome.values |= {"seconds": written["ms"] / 1000, "server_cpu_seconds": usage.server}
    length = str(written["length"])
    read = await _clients(limit, "read", server.url(ROOM), length)
    outcome.values |= {"newcomer": read["ms"], "rss": server.memory().peak}
    await server.restart()
    again = await _clients(limit, "read", server.url(ROOM), length)
    outcome.values |= {"restarted": again["ms"], "rss_restarted": server.memory().peak}
    outcome.values["stored"] = sum(path.stat().st_size for path in server.data.rglob("*") if path.is_file()) / 1024
    same = written["hash"] == read["hash"] == again["hash"]
    outcome.values["arrived"] = float(same)
    if not same:
        outcome.notes.append("LOST: a newcomer has another text")
    return outcome


async def _clients(limit: float, *arguments: str) -> dict[str, Any]:
    """Run the clients and return what they say.

    Raises:
        ServerError: they failed, or were not done in time.
    """
    process = await asyncio.create_subprocess_exec(
        node(), "clients/session.mjs", *arguments, cwd=HERE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(limit):
            said, complaints = await process.communicate()
    except TimeoutError:
        raise ServerError(f"the clients could not {arguments[0]} within {limit:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ServerError(f"the clients failed to {arguments[0]}: {complaints.decode(errors='replace')[-500:]}")
    found: dict[str, Any] = msgspec.json.decode(said)
    return found
