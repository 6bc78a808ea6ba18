"""Each Dockerfile builds an image that starts its server, checks its health and runs without privileges."""

import json
import re
from importlib import import_module

from deployment import HEALTH, Dockerfile, Server, data_directory, every_server, every_server_with_data


@every_server
def test_image_starts_server(server: Server) -> None:
    """The image starts python itself, which therefore is what SIGTERM reaches."""
    dockerfile = Dockerfile(server)
    assert json.loads(dockerfile["CMD"]) == ["python", "-m", server.package]
    assert dockerfile["STOPSIGNAL"] == "SIGTERM"


@every_server
def test_server_accepts_the_settings_of_its_image(server: Server) -> None:
    """The server accepts the settings of its image."""
    module = import_module(f"{server.package}.settings")
    environment = Dockerfile(server).environment
    assert environment["LOG_FORMAT"] == "json"
    settings = import_module(f"{server.package}.edge.settings").load(module.Settings, environment)
    assert settings.log_format == "json"


@every_server
def test_image_exposes_the_default_port(server: Server) -> None:
    """The image exposes the server's default port, and leaves PORT to the platform."""
    dockerfile = Dockerfile(server)
    assert dockerfile["EXPOSE"] == str(server.default("port"))
    assert "PORT" not in dockerfile.environment


@every_server
def test_image_checks_health_with_python_alone(server: Server) -> None:
    """The health check asks on PORT, or else on the default port, and needs no tool but python."""
    options, command = Dockerfile(server)["HEALTHCHECK"].split(" CMD ")
    python, _, code = json.loads(command)
    assert python == "python"
    assert f"os.environ.get('PORT') or {server.default('port')}" in code
    assert f"'{HEALTH}'" in code
    assert "--timeout=5s" in options
    compile(code, "HEALTHCHECK", "exec")


@every_server
def test_image_does_not_run_as_root(server: Server) -> None:
    """The image does not run as root, and says so in numbers."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", Dockerfile(server)["USER"])


@every_server
def test_image_caches_its_dependencies(server: Server) -> None:
    """A change of code does not install the dependencies again, and no compiler is in the image."""
    dockerfile = Dockerfile(server)
    steps = [f"{keyword} {rest}" for keyword, rest in dockerfile.build]
    dependencies = next(i for i, step in enumerate(steps) if "--requirement" in step)
    assert dependencies < steps.index("COPY . .")
    assert not any("g++" in rest for _, rest in dockerfile.image)


@every_server
def test_image_declares_no_volume(server: Server) -> None:
    """No image has a VOLUME instruction, with which Railway refuses to build it."""
    assert "VOLUME" not in {keyword for keyword, _ in Dockerfile(server).instructions}


@every_server_with_data
def test_image_owns_its_data_directory(server: Server) -> None:
    """The data directory belongs to the user that the server runs as."""
    dockerfile = Dockerfile(server)
    directory = data_directory(server)
    assert ("RUN", f"mkdir {directory} && chown {dockerfile['USER']} {directory}") in dockerfile.image


@every_server
def test_build_context_has_only_named_files(server: Server) -> None:
    """Nothing gets into an image that is not named."""
    lines = (server.folder / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern for pattern in patterns if pattern.startswith("!")} == {
        "!pyproject.toml",
        "!README.md",
        "!requirements.lock",
        f"!{server.package}",
    }
