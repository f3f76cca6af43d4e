"""Evenings whose ledger is on PostgreSQL and whose prices are on an object store: the same rows as in a folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger.ledger import Ledger
from tests.conftest import small_settings
from tests.support.object_store import BUCKET, SECRET, ObjectStore
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.proof

NEXTDAY = Path(sys.executable).with_name("nextday")
EVENINGS = ("2018-12-27T23:00Z", "2018-12-28T23:00Z")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()


class Host:
    """A machine with a workspace of its own."""

    def __init__(self, folder: Path, settings: str) -> None:
        folder.mkdir()
        self.folder, self.home = folder, folder / "home"
        (folder / "nextday.toml").write_text(settings)

    def run(self, *command: str, now: str = EVENINGS[-1], code: int = 0) -> str:
        """Run a command that ends with this code; return all that it printed."""
        place = ("--config", self.folder / "nextday.toml", "--home", self.home, "--now", now)
        done = subprocess.run(
            [NEXTDAY, *place, *command], cwd=self.folder, check=False, capture_output=True, text=True,
            env=os.environ | {"PREFECT_HOME": str(self.folder / "prefect")}, timeout=300,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        assert SECRET not in said
        return said


def head(said: str) -> str:
    found = re.search(r"\b[0-9a-f]{64}\b", said)
    assert found, said
    return found[0]


def test_two_evenings_seal_what_they_seal_in_a_folder_and_an_outage_loses_nothing(
    postgres: PostgresServer, s3: ObjectStore, tmp_path: Path
) -> None:
    prices = f"s3://{BUCKET}/{tmp_path.name}"
    elsewhere = f'[storage]\nledger = "{postgres.address()}"\nprices = "{prices}"\n'
    plain = Host(tmp_path / "plain", small_settings(test_sessions=100))
    shared = Host(tmp_path / "shared", small_settings(test_sessions=100) + elsewhere)
    for now in EVENINGS:
        plain.run("forecast", now=now)
    shared.run("forecast", now=EVENINGS[0])

    postgres.stop()
    said = shared.run("forecast", code=2)
    assert f"127.0.0.1:{postgres.port}" in said
    postgres.start()
    with s3.fault("500"):
        said = shared.run("forecast", code=2)
    assert prices in said
    shared.run("forecast")

    expected = Ledger(plain.home / "ledger.sqlite", read_only=True).head().hash
    assert head(shared.run("ledger", "verify")) == expected
    assert not (shared.home / "ledger.sqlite").exists()
    assert not (shared.home / "prices" / "sample").exists()

    for command in (("ledger", "show"), ("site", "--rebuild"), ("publish", "--to", "published"), ("prices", "check"),
                    ("maintain",)):  # fmt: skip
        shared.run(*command)
    said = shared.run("backup", "copies")
    assert f"prices: not in this backup, they lie on {prices}" in said

    # Another machine sees the same record and prices, and seals no row of that evening again.
    other = Host(tmp_path / "other", small_settings(test_sessions=100) + elsewhere)
    shutil.copytree(shared.home / "models", other.home / "models")
    assert head(other.run("ledger", "verify")) == expected
    assert "2018-12-28" in other.run("prices", "show", "^GSPC")

    # A restored backup has the ledger as a file, with the same seals.
    back = Host(tmp_path / "back", small_settings(test_sessions=100))
    back.run("restore", str(shared.folder / "copies"))
    assert Ledger(back.home / "ledger.sqlite", read_only=True).head().hash == expected
