"""Settings come from the environment, and what cannot be used stops the start with one line."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pytest
from msgspec import Meta

from .harness import settings

EdgeSettings: Any = settings.EdgeSettings


class Settings(EdgeSettings, frozen=True, kw_only=True):  # type: ignore[misc,call-arg]  # see Echo
    """Settings of a server of its own."""

    flag: Annotated[bool, Meta(description="A switch.")] = True
    port: Annotated[int, Meta(ge=0, le=65535, description="A port.")] = 4444


def load(**environment: str) -> Any:
    """Load settings from an environment of these variables."""
    return settings.load(Settings, environment)


def refusal(**environment: str) -> str:
    """Return the line that refuses an environment of these variables."""
    with pytest.raises(settings.SettingError) as info:
        load(**environment)
    return str(info.value)


def test_empty_environment_gives_the_defaults() -> None:
    """An empty environment gives the documented defaults."""
    loaded = load()
    assert loaded == Settings()
    assert loaded.heartbeat_interval == 30_000
    assert loaded.flag is True


def test_variable_sets_its_setting() -> None:
    """A variable with the name of the setting in capitals sets it."""
    assert load(RATE_LIMIT="7", HOST="::1", LOG_FORMAT="json") == Settings(rate_limit=7, host="::1", log_format="json")


@pytest.mark.parametrize("name", ["HOST", "PORT", "FLAG", "RATE_LIMIT", "LOG_LEVEL", "AUTH", "REDIS_URL"])
def test_empty_value_counts_as_unset(name: str) -> None:
    """An empty value counts as unset, as it does where a compose file passes on what nobody set."""
    assert load(**{name: ""}) == Settings()


def test_unknown_variables_are_ignored() -> None:
    """Variables that are no settings are left alone."""
    assert load(PATH="/bin", rate_limit="lower case is another variable") == Settings()


@pytest.mark.parametrize("name", ["MAX_CONNECTIONS", "RATE_LIMIT", "SLOW_CLIENT_BUFFER", "HEARTBEAT_INTERVAL"])
def test_zero_means_no_limit(name: str) -> None:
    """For every limit, 0 is accepted: it means none."""
    assert getattr(load(**{name: "0"}), name.lower()) == 0


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1"])
def test_switch_is_on_for_true_and_1(text: str) -> None:
    """A switch is on for true in any case, and for 1."""
    assert load(FLAG=text).flag is True


@pytest.mark.parametrize("text", ["false", "False", "FALSE", "0"])
def test_switch_is_off_for_false_and_0(text: str) -> None:
    """A switch is off for false in any case, and for 0."""
    assert load(FLAG=text).flag is False


@pytest.mark.parametrize("text", ["yes", "on", "2", "tru"])
def test_bad_switch_names_what_is_accepted(text: str) -> None:
    """A bad value of a switch is refused in a line with variable, value and accepted values."""
    assert refusal(FLAG=text) == f"FLAG is {text!r}; accepted is true or false"


@pytest.mark.parametrize("text", ["-1", "fast", "1.5", " ", "0x10", "1_000", "9" * 5000])
def test_bad_number_names_what_is_accepted(text: str) -> None:
    """A value that is no whole number in the bounds is refused in a line with variable, value and accepted values."""
    assert refusal(RATE_LIMIT=text) == f"RATE_LIMIT is {text!r}; accepted is a whole number, 0 or more"


@pytest.mark.parametrize("text", ["-1", "65536"])
def test_number_beyond_its_upper_bound_is_refused(text: str) -> None:
    """A number has an upper bound where the setting has one."""
    assert refusal(PORT=text) == f"PORT is {text!r}; accepted is a whole number from 0 to 65535"


@pytest.mark.parametrize(
    ("name", "choices"), [("LOG_FORMAT", {"text", "json"}), ("LOG_LEVEL", {"debug", "info", "warning", "error"})]
)
def test_bad_choice_names_all_choices(name: str, choices: set[str]) -> None:
    """A value that is none of the choices is refused with all of them."""
    start, _, accepted = refusal(**{name: "loud"}).partition("; accepted is ")
    assert start == f"{name} is 'loud'"
    assert set(re.split(", | or ", accepted)) == choices


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[2J", "\udcff"])
@pytest.mark.parametrize("name", ["LOG_LEVEL", "RATE_LIMIT"])
def test_refusal_is_one_printable_line(name: str, text: str) -> None:
    """The refusal is one printable line of valid text whatever the value holds, even bytes that are no UTF-8."""
    assert refusal(**{name: text}).encode().decode().isprintable()


@pytest.mark.parametrize("name", [name.upper() for name in Settings.__struct_fields__])
def test_value_that_is_not_utf8_is_refused(name: str) -> None:
    """Bytes that are no UTF-8 are refused in every setting, and not shown."""
    line = refusal(**{name: "hush" * 8 + "\udcff"})
    assert line.startswith(f"{name} is not valid UTF-8; accepted is ")
    assert "hush" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_ORIGINS", "https://noodl.example"),
        ("REQUIRE_WSS", "true"),
        ("TLS_CERT", "/cert.pem"),
        ("TLS_KEY", "/key.pem"),
        ("TRUSTED_PROXIES", "10.0.0.0/8"),
        ("MAX_CONNECTIONS_PER_IP", "10"),
        ("AUTH", "jwt"),
        ("AUTH_SECRET", "hush"),
        ("AUTH_PUBLIC_KEY", "key"),
        ("AUTH_JWKS_URL", "https://noodl.example/jwks"),
        ("REDIS_URL", "redis://localhost"),
        ("DATABASE_URL", "postgresql://localhost"),
    ],
)
def test_documented_setting_works_or_stops_the_start(name: str, value: str) -> None:
    """A documented setting works or refuses the start; it is never silently without effect."""
    if name.lower() not in Settings.__struct_fields__:
        line = refusal(**{name: value})
        assert name in line
        assert "hush" not in line


@pytest.mark.parametrize(
    ("name", "value"), [("AUTH", "none"), ("REQUIRE_WSS", "FALSE"), ("MAX_CONNECTIONS_PER_IP", "0")]
)
def test_setting_for_the_only_behaviour_is_accepted(name: str, value: str) -> None:
    """A setting that says outright what this version does anyway is accepted."""
    assert load(**{name: value}).host == "::"


def test_description_lists_every_setting() -> None:
    """Documentation gets every setting with name, default, accepted values and a description."""
    described = {setting.name: setting for setting in settings.describe(Settings)}
    assert set(described) == {name.upper() for name in Settings.__struct_fields__}
    assert described["FLAG"] == ("FLAG", "true", "true or false", "A switch.")
    assert described["PORT"][1:3] == ("4444", "a whole number from 0 to 65535")
    assert all(setting.description for setting in described.values())


def test_settings_of_the_server_are_described_first() -> None:
    """The server's own settings come before those that all servers share."""
    names = [setting.name for setting in settings.describe(Settings)]
    assert set(names[:2]) == {"FLAG", "PORT"}
