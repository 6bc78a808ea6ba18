"""The Procfile of `make up` starts every server."""

from deployment import ROOT, SERVERS, Server, every_server


@every_server
def test_procfile_starts_every_server(server: Server) -> None:
    """`make up` starts every server, with its data below ./data."""
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert lines.keys() == {server.name for server in SERVERS} | {"playground"}
    environment, _, command = lines[server.name].rpartition("exec ")
    assert command == f"python -m {server.package}"
    variables = dict(pair.split("=", 1) for pair in environment.split())
    assert list(variables) == ([server.data.upper()] if server.data else [])
    assert all(value.startswith("./data/") for value in variables.values())
