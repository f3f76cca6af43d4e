"""A ledger on each database that can hold one."""

from pathlib import Path

import pytest

from pipeline.storage.ledger_database import LedgerPlace, locate_ledger


@pytest.fixture
def database(address: str, tmp_path: Path) -> LedgerPlace:
    """Where a new ledger in a schema of its own is."""
    return locate_ledger(address, tmp_path / "home" / "ledger.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """Where a new ledger is: the test runs on each database."""
    if request.param == "sqlite":
        return tmp_path / "deep" / "ledger.sqlite"
    found: LedgerPlace = request.getfixturevalue("database")
    return found
