import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import InputError, LedgerError, LedgerUnreachableError
from pipeline.ledger import known_head
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.recovery import begin_again, describe_loss
from pipeline.ledger.sealed_batches import open_sealed, read_table
from pipeline.storage.ledger_database import LedgerDatabase, LedgerPlace, locate_ledger
from tests.conftest import PROJECT
from tests.pipeline.ledger.test_ledger import EVENING, TUESDAY, WEDNESDAY, forecasts, issue, outcomes
from tests.support.postgres_server import PostgresServer

WRITER = """
import sys
from pathlib import Path
import pandas as pd
from pipeline.ledger.ledger import Ledger
from pipeline.storage.ledger_database import locate_ledger
from tests.pipeline.ledger.test_ledger import forecasts, issue
ledger = Ledger(locate_ledger(sys.argv[1], Path(sys.argv[2]) / "ledger.sqlite"))
for number in range(int(sys.argv[4])):
    day = pd.Timestamp(2019, 1, 1) + pd.Timedelta(days=number)
    frame = forecasts(*(f"{sys.argv[3]}{n}" for n in range(20)), as_of=day, target_session=day + pd.Timedelta(days=1))
    issue(ledger, frame, historical=True)
    print(number, flush=True)
"""


def write_evenings(ledger: Ledger) -> None:
    """Seal champions and challengers, outcomes, a void one and a correction, with numbers that are hard to keep."""
    hard = {
        "p_up": [0.1 + 0.2, 5e-324, 1 - 2**-53],
        "last_close": [1 / 3, 1e300, 2.0],
        "low": [-0.0, 0.0, 0.25],
    }
    issue(ledger, forecasts("b", "A", "BRK.B", **hard))
    issue(ledger, forecasts("A", role="challenger", model_version="lstm-1"))
    issue(ledger, forecasts("A"), universe="other")
    ledger.settle(outcomes("b", "A", realized_return=[-0.0, 1e-300]), universe="sample")
    ledger.settle(outcomes("A", realized_return=0.5), universe="sample")
    issue(
        ledger, forecasts("A", as_of=TUESDAY, target_session=WEDNESDAY, issued_at=EVENING + timedelta(days=1))
    )


def connect(place: LedgerDatabase) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(place.dsn, autocommit=True, options=f"-c search_path={place.schema}")


def write_in_a_process(
    server: PostgresServer, schema: str, home: Path, name: str, times: int
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, server.address(schema), str(home), name, str(times)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip


def test_the_heads_of_the_same_rows_are_the_same_on_both_databases(
    database: LedgerPlace, tmp_path: Path
) -> None:
    ledgers = [Ledger(tmp_path / "ledger.sqlite"), Ledger(database)]
    for ledger in ledgers:
        write_evenings(ledger)
        assert ledger.verify().problems == []
    assert ledgers[0].head() == ledgers[1].head()
    exported = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for ledger, path in zip(ledgers, exported, strict=True):
        ledger.export_csv(None, path)
    assert exported[0].read_bytes() == exported[1].read_bytes()
    tables = list[object]()
    for ledger in ledgers:
        with open_sealed(ledger.path) as db:
            tables.append(
                {name: read_table(db, name).to_csv() for name in ("forecasts", "outcomes", "record")}
            )
    assert tables[0] == tables[1]


@pytest.mark.parametrize("table", ["forecasts", "forecast_batches", "outcomes", "outcome_batches"])
def test_nothing_is_changed_deleted_or_emptied(database: LedgerDatabase, table: str) -> None:
    ledger = Ledger(database)
    write_evenings(ledger)
    with connect(database) as db:
        for statement in (
            f"UPDATE {table} SET universe = 'x'",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            with pytest.raises(
                psycopg.errors.RaiseException, match=f"append-only: no .* {table}|append-only"
            ):
                db.execute(statement.encode())
        with pytest.raises(psycopg.errors.RaiseException, match=r"sealed|stands already"):
            db.execute(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1".encode())
    assert ledger.verify().ok


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("ALTER TABLE forecasts DISABLE TRIGGER forecasts_no_update", "forecasts_no_update is missing or was changed"),
        ("DROP TRIGGER outcomes_no_truncate ON outcomes", "outcomes_no_truncate is missing or was changed"),
        ("DROP INDEX one_champion", "one_champion is missing or was changed"),
        ("CREATE RULE quiet AS ON INSERT TO outcomes DO INSTEAD NOTHING", "'rule quiet of outcomes' does not belong"),
        (
            "CREATE OR REPLACE FUNCTION forecasts_no_delete() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN OLD; END'",
            "forecasts_no_delete is missing or was changed",
        ),
    ],
)  # fmt: skip
def test_a_guard_that_was_taken_away_is_named(database: LedgerDatabase, damage: str, named: str) -> None:
    ledger = Ledger(database)
    write_evenings(ledger)
    with connect(database) as db:
        db.execute(damage.encode())
    (problem,) = ledger.verify().problems
    assert named in problem


def test_a_changed_value_and_a_cut_end_are_named(database: LedgerDatabase) -> None:
    ledger = Ledger(database)
    write_evenings(ledger)
    with connect(database) as db:
        db.execute("ALTER TABLE forecasts DISABLE TRIGGER ALL")
        db.execute("UPDATE forecasts SET p_up = 0.9 WHERE batch = 1 AND symbol = 'A'")
        db.execute("ALTER TABLE forecasts ENABLE TRIGGER ALL")
    assert [each.split(":")[0] for each in ledger.verify().problems] == [
        "forecast batch 1 (sample, as_of 2018-12-10)"
    ]
    words = describe_loss(database)
    assert words == "the ledger is damaged and set aside, with 4 forecast batches and 2 outcome batches"
    aside = begin_again(database, words, EVENING)
    assert isinstance(aside, LedgerDatabase)
    assert aside.schema == f"{database.schema}_broken_20181210t220000z"
    assert ledger.verify().problems == []
    assert ledger.verify().beginnings == [f"On 2018-12-10 the ledger went on after a loss: {words}."]
    with connect(aside) as db:
        assert db.execute("SELECT count(*) FROM forecasts").fetchone() == (6,)


def test_a_schema_that_is_gone_is_a_loss(database: LedgerDatabase) -> None:
    write_evenings(Ledger(database))
    with connect(database) as db:
        db.execute(f"DROP SCHEMA {database.schema} CASCADE".encode())
    with pytest.raises(LedgerError, match="The ledger is gone: forecast batches up to 4"):
        known_head.ledger_exists(database)


def test_two_hosts_write_at_the_same_time(postgres: PostgresServer, tmp_path: Path) -> None:
    writers = [write_in_a_process(postgres, "hosts", tmp_path / name, name, 15) for name in ("a", "b")]
    assert [writer.communicate(timeout=120)[1] for writer in writers] == ["", ""]
    found = Ledger(locate_ledger(postgres.address("hosts"), tmp_path / "c" / "ledger.sqlite")).verify()
    assert (found.problems, found.batches, found.forecasts) == ([], 30, 600)


def test_a_killed_writer_leaves_no_half_batch(postgres: PostgresServer, tmp_path: Path) -> None:
    told = 0
    for part in range(4):
        writer = write_in_a_process(postgres, "killed", tmp_path, f"k{part}-", 200)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        time.sleep(0.03 * part)
        writer.kill()
        told += 1 + len(writer.communicate()[0].splitlines())
    found = Ledger(locate_ledger(postgres.address("killed"), tmp_path / "ledger.sqlite")).verify()
    assert found.problems == []
    assert found.forecasts == 20 * found.batches
    assert told <= found.batches <= told + 4  # a writer may die after its commit, before it says so


def test_a_server_that_crashes_loses_nothing_and_a_rerun_goes_on(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "server")
    server.start()
    try:
        place = locate_ledger(server.address(), tmp_path / "home" / "ledger.sqlite")
        ledger = Ledger(place)
        write_evenings(ledger)
        head = ledger.head()
        writer = write_in_a_process(server, "nextday", tmp_path / "home", "c", 1000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        server.stop(signal.SIGQUIT)
        rest, error = writer.communicate(timeout=60)
        assert "LedgerUnreachableError: The ledger's database cannot be reached" in error
        with pytest.raises(LedgerUnreachableError) as refused:
            ledger.head()
        assert refused.value.exit_code == 2
        assert refused.value.where == f"postgresql://desk@127.0.0.1:{server.port}/postgres?schema=nextday"
        server.start()
        again = write_in_a_process(server, "nextday", tmp_path / "home", "c", len(rest.splitlines()) + 3)
        assert again.communicate(timeout=60)[1] == ""
        found = ledger.verify(expected_head=head.hash)
        assert found.problems == []
        assert found.forecasts == 6 + 20 * (len(rest.splitlines()) + 3)  # nothing lost, nothing doubled
    finally:
        server.stop()


def test_an_address_shows_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DESK_LEDGER", "postgresql://me:hidden@127.0.0.1:1/desk?schema=quant")
    place = locate_ledger("env:DESK_LEDGER", tmp_path / "ledger.sqlite")
    assert str(place) == "postgresql://me@127.0.0.1:1/desk?schema=quant"
    with pytest.raises(LedgerUnreachableError) as refused:
        Ledger(place)
    assert "hidden" not in f"{refused.value} {refused.value!r} {place!r}"
    assert "127.0.0.1" in str(refused.value)


@pytest.mark.parametrize(
    "address", ["mysql://me@host/desk", "postgresql://host", "postgresql://host/d?schema=a-b"]
)
def test_another_address_is_refused_without_being_repeated(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_LEDGER", address)
    with pytest.raises(InputError, match="DESK_LEDGER holds no address") as refused:
        locate_ledger("env:DESK_LEDGER", Path("ledger.sqlite"))
    assert address not in str(refused.value)
