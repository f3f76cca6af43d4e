import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.ledger import hash_chain, known_head
from pipeline.ledger.ledger import Ledger
from tests.support.made_sequences import NO_MEDIAN

FIRST = pd.Timestamp(2018, 12, 10)
EVENING = datetime(2018, 12, 10, 22, tzinfo=UTC)
DAY = timedelta(days=1)


def forecasts(day: int, symbols: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": symbols}).assign(
        as_of=FIRST + day * DAY, target_session=FIRST + (day + 1) * DAY, horizon=1, model_version="gru-1",
        issued_at=EVENING + day * DAY, p_up=0.52, low=0.49, high=0.55, direction="up", baseline_p_up=0.53,
        last_close=100.0, data_version=7, config_digest="c0ffee", role="champion", target="direction",
    )  # fmt: skip
    return frame.astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", "issued_at": "datetime64[us, UTC]"}
    )


def outcomes(day: int, symbols: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": symbols}).assign(
        as_of=FIRST + day * DAY, target_session=FIRST + (day + 1) * DAY, horizon=1, outcome=1.0,
        realized_return=0.01, settled_at=EVENING + (day + 2) * DAY, data_version=9,
        **NO_MEDIAN,
    )  # fmt: skip
    return frame.astype(
        {
            "as_of": "datetime64[us]",
            "target_session": "datetime64[us]",
            "settled_at": "datetime64[us, UTC]",
            "median_basis": "str",
            "void_reason": "str",
        }
    )


def issue(ledger: Ledger, day: int, symbols: list[str]) -> pd.DataFrame:
    opens = {FIRST + day * DAY: EVENING + (day + 0.7) * DAY}
    observed = EVENING + (day - 0.01) * DAY
    asked = forecasts(day, symbols)
    return ledger.issue(asked, universe="sample", opens=opens, newest_observed_at=observed, historical=False)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ledger that each test gets a copy of."""
    ledger = Ledger(tmp_path_factory.mktemp("sealed") / "ledger.sqlite")
    for day in range(4):
        issue(ledger, day, ["AAPL", "MSFT"])
    for day in range(3):
        ledger.settle(outcomes(day, ["AAPL", "MSFT"]), universe="sample")
    assert not [*ledger.path.parent.glob("*-wal")]  # all of it is in the one file
    return ledger.path


@pytest.fixture
def ledger(sealed: Path, tmp_path: Path) -> Ledger:
    """Four evenings of two live forecasts each; the first three are settled."""
    for file in sealed.parent.iterdir():  # the head that is noted beside it too
        shutil.copyfile(file, tmp_path / file.name)
    return Ledger(tmp_path / "ledger.sqlite")


def forge(path: Path, script: str) -> None:
    """Change the file as a careful forger would: without the guards, which are back afterwards."""
    with closing(sqlite3.connect(path)) as db:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        drops = "".join(f"DROP TRIGGER {name};" for name, _ in guards)
        db.executescript(drops + script + ";" + "".join(f"{sql};" for _, sql in guards))


def test_an_untouched_ledger_verifies(ledger: Ledger) -> None:
    found = ledger.verify()
    assert (found.ok, found.batches, found.forecasts, found.outcomes, found.problems) == (True, 7, 8, 6, [])
    assert found.head == ledger.head()


@pytest.mark.parametrize("number", [1, 2])
def test_the_seal_can_be_recomputed_from_the_tables_by_anyone(ledger: Ledger, number: int) -> None:
    with closing(sqlite3.connect(ledger.path)) as db:
        seals = [seal for (seal,) in db.execute("SELECT hash FROM forecast_batches ORDER BY number")]
    before = ["0" * 64, *seals]  # the first one follows 64 zeros
    as_of, target = f"2018-12-{9 + number:02}", f"2018-12-{10 + number}"
    evening = f"{as_of}T22:00:00.000000+00:00"
    row = [as_of, target, 1, "gru-1", evening, 0.52, 0.49, 0.55, "up", 0.53, 100.0, 7, "c0ffee"]
    proof = ["champion", "live", f"{target}T14:48:00.000000+00:00", f"{as_of}T21:45:36.000000+00:00"]
    names = (
        "universe symbol as_of target_session horizon model_version issued_at p_up low high direction baseline_p_up "
        "last_close data_version config_digest role kind opens_at observed_at"
    )
    content = {
        "batch": [number, "sample", evening, 2, before[number - 1]],
        "chain": "forecast",
        "columns": names.split(),
        "rows": [["sample", symbol, *row, *proof] for symbol in ("AAPL", "MSFT")],
    }
    assert (
        hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest() == seals[number - 1]
    )


def test_the_head_joins_both_chains(ledger: Ledger) -> None:
    query = "SELECT hash FROM {}_batches ORDER BY number DESC"
    with closing(sqlite3.connect(ledger.path)) as db:
        ends = [db.execute(query.format(chain)).fetchone()[0] for chain in ("forecast", "outcome")]
    assert ledger.head().hash == hashlib.sha256("".join(ends).encode()).hexdigest()


@pytest.mark.parametrize("table", ["forecasts", "outcomes", "forecast_batches", "outcome_batches"])
def test_the_tables_refuse_every_change(ledger: Ledger, table: str) -> None:
    with closing(sqlite3.connect(ledger.path)) as db:
        for statement in (
            f"UPDATE {table} SET universe = 'x'",
            f"UPDATE OR REPLACE {table} SET universe = 'x'",
            f"DELETE FROM {table}",
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
            f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=r"append-only|stands already|sealed"):
                db.execute(statement)
    assert ledger.verify().ok


def test_a_replacing_insert_into_a_batch_to_come_cannot_take_the_place_of_a_row(ledger: Ledger) -> None:
    for table, later in (("forecasts", "model_version = 'x'"), ("outcomes", "outcome = 0.0")):
        name, value = later.split(" = ")
        with closing(sqlite3.connect(ledger.path)) as db:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            changed = {"batch": "99", name: value}
            picked = ", ".join(changed.get(column, column) for column in columns)
            with pytest.raises(sqlite3.IntegrityError, match="first one counts"):
                db.execute(f"INSERT OR REPLACE INTO {table} SELECT {picked} FROM {table} WHERE batch = 1")


CHANGED = "its hash does not match its rows: a value was changed"
REMOVED = "batches between them were removed"
COUNTED = "rows were removed or added"
TAMPERINGS = {
    "a probability": (
        "UPDATE forecasts SET p_up = 0.9 WHERE batch = 3 AND symbol = 'MSFT'",
        [f"forecast batch 3 (sample, as_of 2018-12-12): {CHANGED}"],
    ),
    "the last bit of a number": (
        "UPDATE forecasts SET last_close = 100.00000000000001 WHERE batch = 4 AND symbol = 'AAPL'",
        [f"forecast batch 4 (sample, as_of 2018-12-13): {CHANGED}"],
    ),
    "an outcome": (
        "UPDATE outcomes SET outcome = 0.0 WHERE batch = 2 AND symbol = 'AAPL'",
        [f"outcome batch 2 (sample, as_of 2018-12-11): {CHANGED}"],
    ),
    "the time of a batch": (
        "UPDATE forecast_batches SET made_at = '2018-12-01T00:00:00.000000+00:00' WHERE number = 1",
        [f"forecast batch 1 (sample, as_of 2018-12-10): {CHANGED}"],
    ),
    "a batch in the middle removed": (
        "DELETE FROM forecasts WHERE batch = 2; DELETE FROM forecast_batches WHERE number = 2",
        [f"forecast batch 3 (sample, as_of 2018-12-12): it follows batch 1: {REMOVED}"],
    ),
    "the first batch removed": (
        "DELETE FROM outcomes WHERE batch = 1; DELETE FROM outcome_batches WHERE number = 1",
        [f"outcome batch 2 (sample, as_of 2018-12-11): it follows batch 0: {REMOVED}"],
    ),
    "a seal removed, its rows left": (
        "DELETE FROM forecast_batches WHERE number = 4",
        ["forecast batch 4: it has rows, but is not sealed"],
    ),
    "a row removed": (
        "DELETE FROM forecasts WHERE batch = 2 AND symbol = 'AAPL'",
        [f"forecast batch 2 (sample, as_of 2018-12-11): it was sealed with 2 rows and has 1: {COUNTED}"],
    ),
    "a row put in": (
        "INSERT INTO outcomes SELECT batch, universe, 'TSLA', as_of, target_session, horizon, 1.0, 0.01, "
        "settled_at, data_version, 'direction', NULL, NULL, NULL, NULL, 0 FROM outcomes "
        "WHERE batch = 1 AND symbol = 'AAPL'",
        [f"outcome batch 1 (sample, as_of 2018-12-10): it was sealed with 2 rows and has 3: {COUNTED}"],
    ),
    "a gap closed by renumbering": (
        "DELETE FROM outcomes WHERE batch = 2; DELETE FROM outcome_batches WHERE number = 2;"
        "UPDATE outcomes SET batch = 2 WHERE batch = 3; UPDATE outcome_batches SET number = 2 WHERE number = 3",
        [
            "outcome batch 2 (sample, as_of 2018-12-12): it does not contain the hash of the batch before it: "
            "one was changed, removed or moved",
            f"outcome batch 2 (sample, as_of 2018-12-12): {CHANGED}",
        ],
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_named(ledger: Ledger, tampering: str) -> None:
    script, problems = TAMPERINGS[tampering]
    known_head.place(ledger.path).unlink()  # the chain alone has to show it
    forge(ledger.path, script)
    assert ledger.verify().problems == problems


def test_a_batch_of_several_sessions_is_named_by_the_first_and_the_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for day in range(3):
        issue(ledger, day, ["AAPL"])
    ledger.settle(pd.concat([outcomes(day, ["AAPL"]) for day in (2, 0, 1)]), universe="sample")
    forge(ledger.path, "UPDATE outcomes SET realized_return = 9")
    assert ledger.verify().problems == [
        f"outcome batch 1 (sample, as_of 2018-12-10 to 2018-12-12): {CHANGED}"
    ]


def test_batches_in_another_order_are_named(ledger: Ledger) -> None:
    for table, name in (("forecasts", "batch"), ("forecast_batches", "number")):
        moves = ((2, 9), (3, 2), (9, 3))
        forge(
            ledger.path, ";".join(f"UPDATE {table} SET {name} = {to} WHERE {name} = {at}" for at, to in moves)
        )
    named = {problem.split(" (")[0] for problem in ledger.verify().problems}
    assert named == {f"forecast batch {number}" for number in (2, 3, 4)}


def test_a_late_row_that_is_sealed_as_live_is_named(ledger: Ledger) -> None:
    with hash_chain.opened(ledger.path) as db:
        db.begin_writing()
        row = dict(db.execute("SELECT * FROM forecasts WHERE batch = 1 AND symbol = 'AAPL'").fetchone())
        hash_chain.append(db, hash_chain.FORECAST, [row | {"symbol": "TSLA"}])
        db.execute("COMMIT")
    assert ledger.verify().problems == [
        "forecast batch 5 (sample, as_of 2018-12-10): TSLA is marked live, but its times make it late"
    ]


def test_a_guard_that_was_taken_away_is_named(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("DROP TRIGGER outcomes_no_update")
    assert ledger.verify().problems == [
        "the layout: outcomes_no_update is missing or was changed, so rows could have been changed"
    ]


def test_a_cut_off_end_shows_against_a_head_noted_elsewhere(ledger: Ledger) -> None:
    noted = ledger.head().hash
    assert ledger.verify(expected_head=noted).ok
    forge(ledger.path, "DELETE FROM forecasts WHERE batch = 4; DELETE FROM forecast_batches WHERE number = 4")
    known_head.place(ledger.path).unlink()
    assert ledger.verify().ok
    assert ledger.verify(expected_head=noted).problems == [
        f"{noted} was never the head of this ledger: batches were removed or rewritten"
    ]


def test_a_ledger_that_grew_still_holds_every_head_it_ever_had(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    noted = [ledger.head().hash]
    for day in range(3):
        issue(ledger, day, ["AAPL"])
        noted.append(ledger.head().hash)
        ledger.settle(outcomes(day, ["AAPL"]), universe="sample")
        noted.append(ledger.head().hash)
    assert len(set(noted)) == 7
    assert all(ledger.verify(expected_head=head).ok for head in noted)
