"""Paths with ~ and variables."""

from pathlib import Path

import pytest

from pipeline.storage.paths import expand


def test_home_and_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("PRICES", "~/prices")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert expand("~/a.csv") == Path("/home/ada/a.csv")
    assert expand("${PRICES}/a.csv") == Path("/home/ada/prices/a.csv")
    assert expand("$NOWHERE/a.csv") == Path("$NOWHERE/a.csv")
    monkeypatch.chdir(tmp_path)
    Path("$PRICES").touch()
    assert expand("$PRICES") == Path("$PRICES")  # a file may be named so
