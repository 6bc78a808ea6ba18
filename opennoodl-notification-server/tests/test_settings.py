"""Settings have the documented names and defaults, and a bad one stops the start with one line."""

from __future__ import annotations

import pytest
from opennoodl_notification.edge.settings import SettingError, describe, load
from opennoodl_notification.settings import Settings


def test_unset_settings_have_the_documented_defaults() -> None:
    """Where nothing is set, the documented defaults hold."""
    settings = load(Settings, {})
    assert (settings.port, settings.db_file, settings.ttl_days) == (4446, "./notifications.json", 30)
    assert (settings.sends_per_hour, settings.heartbeat_interval) == (300, 30_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", 5000), ("DB_FILE", "a b.json"), ("TTL_DAYS", 7), ("SENDS_PER_HOUR", 5), ("MAX_PER_USER", 9)],
)
def test_every_setting_is_an_environment_variable(name: str, value: object) -> None:
    """Every setting is an environment variable."""
    assert getattr(load(Settings, {name: str(value)}), name.lower()) == value


@pytest.mark.parametrize("url", ["secret", "/data/n.sqlite", "postgresql:/u:secret@host/name"])
def test_invalid_database_url_is_refused(url: str) -> None:
    """An invalid DATABASE_URL is not taken for a file name; the error names the accepted forms, but not the value."""
    with pytest.raises(SettingError, match=r"DATABASE_URL cannot be read; accepted are postgresql://") as info:
        _ = load(Settings, {"DATABASE_URL": url}).place
    assert url not in str(info.value)


@pytest.mark.parametrize("name", ["SENDS_PER_HOUR", "MAX_PER_USER", "MAX_MESSAGE_SIZE", "RATE_LIMIT"])
def test_zero_means_no_limit(name: str) -> None:
    """For every limit, 0 means none."""
    assert getattr(load(Settings, {name: "0"}), name.lower()) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("TTL_DAYS", "0"),
        ("TTL_DAYS", "-1"),
        ("TTL_DAYS", "1.5"),
        ("TTL_DAYS", "a week"),
        ("SENDS_PER_HOUR", "-1"),
        ("MAX_PER_USER", "many"),
        ("MAX_MESSAGE_SIZE", "64K"),
    ],
)
def test_bad_value_is_refused_in_one_line(name: str, value: str) -> None:
    """A bad value is refused in one line with the variable, the value and the accepted values."""
    with pytest.raises(SettingError) as info:
        load(Settings, {name: value})
    line = str(info.value)
    assert name in line
    assert value in line
    assert "whole number" in line
    assert "\n" not in line


def test_every_setting_has_a_description() -> None:
    """Every setting has a description."""
    assert all(setting.description for setting in describe(Settings))
