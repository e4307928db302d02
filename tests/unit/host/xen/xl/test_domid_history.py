"""For how long libxl keeps the id of a domain that has ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xenqemu.host.xen.xl.domid_history import seconds_kept

NOW = 1000.25


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: NOW)
    monkeypatch.delenv("LIBXL_DOMID_REUSE_TIMEOUT", raising=False)


@pytest.mark.parametrize(
    ("history", "seconds"),
    [
        ("", 0),
        ("1000 7\n", 61),
        ("990 7\n", 51),
        ("940 7\n", 1),  # libxl: 1000 - 940 <= 60, so it is refused until the clock says 1001
        ("939 7\n", 0),
        ("990 8\n", 0),
        ("990 7\n900 7\n", 51),
        ("900 7\n995 8\n990 7\n", 51),
        ("990 70\n1 9907\n", 0),
        ("damaged\n\n990\n990 7 1\n-1 7\n990 7", 51),
        (f"{'9' * 5000} 7\n", 0),
    ],
)
def test_an_id_is_kept_for_a_minute(tmp_path: Path, history: str, seconds: int) -> None:
    (tmp_path / "domid-history").write_text(history)
    assert seconds_kept(tmp_path, 7) == seconds


def test_without_a_history_no_id_is_kept(tmp_path: Path) -> None:
    assert seconds_kept(tmp_path, 7) == 0


@pytest.mark.parametrize(("given", "seconds"), [("5", 0), ("100", 91), ("", 51), ("soon", 51)])
def test_the_environment_may_say_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, seconds: int
) -> None:
    monkeypatch.setenv("LIBXL_DOMID_REUSE_TIMEOUT", given)
    (tmp_path / "domid-history").write_text("990 7\n")
    assert seconds_kept(tmp_path, 7) == seconds
