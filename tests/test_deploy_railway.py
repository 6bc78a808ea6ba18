"""railway.json says what Railway understands, and what the code does."""

import json

from deployment import HEALTH, Server, every_server


@every_server
def test_railway_builds_checks_and_drains(server: Server) -> None:
    """railway.json builds the Dockerfile, asks for health, and lets the server drain."""
    known = json.loads((server.folder / "railway.json").read_text())
    assert known["$schema"] == "https://railway.com/railway.schema.json"
    assert known["build"]["builder"] == "DOCKERFILE"
    assert (server.folder / known["build"]["dockerfilePath"]).is_file()
    deploy = known["deploy"]
    assert deploy["healthcheckPath"] == HEALTH
    assert deploy["restartPolicyType"] == "ON_FAILURE"
    for key in ("healthcheckTimeout", "restartPolicyMaxRetries", "drainingSeconds"):
        assert isinstance(deploy[key], int), f"Railway refuses {key} if it is not a number"
    assert deploy["drainingSeconds"] > server.drain
