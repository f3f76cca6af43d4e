"""A ledger on each database that can hold one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.storage.ledger_database import LedgerPlace, locate_ledger
from tests.support.postgres_server import PostgresServer

_SCHEMAS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(postgres: PostgresServer, tmp_path: Path) -> LedgerPlace:
    """Where a new ledger in a schema of its own is."""
    return locate_ledger(postgres.address(f"desk{next(_SCHEMAS)}"), tmp_path / "home" / "ledger.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerPlace:
    """Where a new ledger is: the test runs on each database."""
    if request.param == "sqlite":
        return tmp_path / "deep" / "ledger.sqlite"
    found: LedgerPlace = request.getfixturevalue("database")
    return found
