"""The limit of open files decides how many connections there may be, and the store is left its share."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

import pytest

from .harness import errors, open_files, settings


class Relaying(settings.EdgeSettings, frozen=True, kw_only=True):
    """The settings of a server that opens another connection for each one."""

    @property
    def files_per_connection(self) -> int:
        """Two for each connection."""
        return 2


def fitted(most: int, limit: int) -> tuple[int, str]:
    """Return how many connections a limit of open files leaves of so many, and the warning."""
    fit, warning = open_files.fit(settings.EdgeSettings(max_connections=most), limit)
    return fit.max_connections, warning


@pytest.mark.parametrize(("most", "limit"), [(10_000, 2**20), (10_000, sys.maxsize), (0, sys.maxsize), (100, 300)])
def test_enough_files_change_nothing(most: int, limit: int) -> None:
    """Where there are files enough, nothing changes and nothing is said."""
    assert fitted(most, limit) == (most, "")


@pytest.mark.parametrize("most", [10_000, 0])
def test_too_few_files_lower_the_connection_limit(most: int) -> None:
    """Where there are fewer, so many connections are accepted, and one line says which setting, limit and number."""
    connections, warning = fitted(most, 1024)
    assert 500 < connections < 1024 - 1024 // 5
    assert f"MAX_CONNECTIONS is {most}" in warning
    assert "1024 open files" in warning
    assert str(connections) in warning
    assert "\n" not in warning


def test_hardly_any_files_stop_the_start() -> None:
    """Where there are hardly any, the server does not start, and says what to raise."""
    with pytest.raises(errors.StartError, match=r"may open only 100 files.*ulimit -n"):
        fitted(10_000, 100)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Pretend that the limits are these, and that the system grants so many files; return the soft limit in a list."""

    def pretend(soft: int, hard: int, granted: int) -> list[int]:
        now = [soft]

        def set_(_: int, pair: tuple[int, int]) -> None:
            if pair[0] > granted or pair[0] == resource.RLIM_INFINITY:
                raise ValueError("not allowed")
            now[0] = pair[0]

        monkeypatch.setattr(resource, "getrlimit", lambda _: (now[0], hard))
        monkeypatch.setattr(resource, "setrlimit", set_)
        return now

    return pretend


@pytest.mark.parametrize(
    ("soft", "hard", "granted", "raised"),
    [
        (1024, 524_288, 524_288, 524_288),
        (256, resource.RLIM_INFINITY, 10_240, 10_240),
        (256, resource.RLIM_INFINITY, 300, 256),
    ],
    ids=["Linux", "macOS", "nothing granted"],
)
def test_soft_limit_is_raised(
    limits: Callable[..., list[int]], soft: int, hard: int, granted: int, raised: int
) -> None:
    """The soft limit is raised as far as the system grants it, and what there is then is known."""
    now = limits(soft, hard, granted)
    assert open_files.raise_limit() == raised == now[0]


def test_fifth_of_the_files_is_left_to_the_store(limits: Callable[..., list[int]]) -> None:
    """All that clients open leaves a fifth of the files to the store, also where a connection takes two files."""
    for limit in (256, 1024, 20_000):
        limits(limit, limit, limit)
        for kind, files in ((settings.EdgeSettings, 1), (Relaying, 2)):
            fit, _ = open_files.fit(kind(max_connections=10_000), limit)
            taken = files * fit.max_connections + 2 * open_files.spare(fit)
            assert taken <= limit - limit // 5 - open_files.RESERVE
