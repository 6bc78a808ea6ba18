"""Pages come in from the origins that are allowed, and browsers are told so."""

from __future__ import annotations

import pytest

from ..harness import origins, settings

SETTING = "https://noodl.example, https://*.noodl.example,http://localhost:3000 , null, file://, app://editor"


@pytest.mark.parametrize(
    "origin",
    [
        "https://noodl.example",
        "HTTPS://Noodl.Example",
        "https://a.noodl.example",
        "https://a.b.noodl.example",
        "http://localhost:3000",
        "null",
        "file://",
        "app://editor",
    ],
)
def test_listed_origin_is_allowed(origin: str) -> None:
    """A listed origin is allowed, and a page of it may read the answer; another's may not."""
    found = origins.Origins(SETTING)
    assert found.allow([origin])
    headers = found.headers([origin])
    assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (origin, "Origin")


@pytest.mark.parametrize(
    "origin",
    [
        "http://noodl.example",
        "https://noodl.example:8443",
        "https://noodl.example.evil.example",
        "https://evilnoodl.example",
        "https://.noodl.example",
        "https://noodl.example/",
        "http://localhost",
        "",
        "*",
    ],
)
def test_similar_origin_is_refused(origin: str) -> None:
    """Anything else is not, however much it looks like one."""
    found = origins.Origins(SETTING)
    assert not found.allow([origin])
    assert found.headers([origin]) == {"Vary": "Origin"}


def test_two_origin_headers_are_refused() -> None:
    """A request with two Origin headers is refused."""
    assert not origins.Origins(SETTING).allow(["null", "null"])


def test_client_without_an_origin_is_allowed() -> None:
    """A client without an Origin header, which is no browser, is allowed."""
    found = origins.Origins(SETTING)
    assert found.allow([])
    assert found.headers([]) == {"Vary": "Origin"}


@pytest.mark.parametrize("origin", [[], ["https://anything.example"], ["a", "b"]])
def test_asterisk_allows_every_origin(origin: list[str]) -> None:
    """With an asterisk everything is."""
    found = origins.Origins("*")
    assert found.allow(origin)
    assert found.headers(origin)["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in found.headers(origin)


@pytest.mark.parametrize(
    "setting", ["noodl.example", "https://", "https://noodl.example/editor", "*, https://a.example", "https://*", "a b"]
)
def test_invalid_origin_is_named(setting: str) -> None:
    """An error names the invalid origin."""
    with pytest.raises(settings.SettingError, match="ALLOWED_ORIGINS has"):
        origins.Origins(setting)
