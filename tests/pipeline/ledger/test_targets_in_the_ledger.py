"""Targets in the ledger: part of the key and of the hash, and ledgers that were written before there were any."""

import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import NextdayError
from pipeline.ledger import hash_chain
from pipeline.ledger.backends import read_statements
from pipeline.ledger.ledger import Ledger
from tests.pipeline.ledger.test_hash_chain import ROW
from tests.pipeline.ledger.test_sealed_ledger import EVENING, forecasts, forge, outcomes

EARLIER = """
CREATE TABLE {kind}s (batch INTEGER NOT NULL, {columns}) STRICT;
CREATE UNIQUE INDEX one_{kind} ON {kind}s (universe, symbol, as_of, target_session, horizon);
CREATE TRIGGER {kind}s_no_delete BEFORE DELETE ON {kind}s BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
OUTCOME = {
    "universe": "sample", "symbol": "AAPL", "as_of": "2018-12-10", "target_session": "2018-12-11", "horizon": 1,
    "outcome": 1.0, "realized_return": 0.0125, "settled_at": "2018-12-12T22:00:00.000000+00:00", "data_version": 9,
    "correction": 0,
}  # fmt: skip
TARGETS = ("direction", "relative", "overnight_relative")


def earlier_ledger(path: Path) -> str:
    """Write a ledger of the first layout, a batch in each chain, by its own rules; return its head."""
    hashes = []
    with closing(sqlite3.connect(path)) as db:
        for statement in read_statements():
            if re.match(r"CREATE TABLE IF NOT EXISTS \w+_batches \(", statement):  # as they were
                db.execute(statement)
        for kind, row in (
            ("forecast", {k: v for k, v in ROW.items() if k != "target"}),
            ("outcome", OUTCOME),
        ):
            types = {int: "INTEGER", float: "REAL"}
            columns = ", ".join(f"{name} {types.get(type(cell), 'TEXT')}" for name, cell in row.items())
            db.executescript(EARLIER.format(kind=kind, columns=columns))
            clock = row["issued_at" if kind == "forecast" else "settled_at"]
            header = [1, "sample", clock, 1, "0" * 64]
            content = {"chain": kind, "batch": header, "columns": [*row], "rows": [[*row.values()]]}
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            hashes.append(hashlib.sha256(text.encode()).hexdigest())
            db.execute(f"INSERT INTO {kind}s VALUES (1{', ?' * len(row)})", [*row.values()])
            db.execute(f"INSERT INTO {kind}_batches VALUES (?, ?, ?, ?, ?, ?)", [*header, hashes[-1]])
        db.execute("CREATE VIEW record AS SELECT 1")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_ledger_from_before_there_were_targets_keeps_its_hashes(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "ledger.sqlite"
    head = earlier_ledger(path)
    ledger = Ledger(path, read_only=read_only)
    found = ledger.verify(expected_head=head)
    assert found.problems == []
    assert (found.head.hash, found.forecasts, found.outcomes) == (head, 1, 1)
    (row,) = ledger.record("sample").itertuples()
    assert (row.target, row.direction, row.outcome, row.realized_return) == ("direction", "up", 1.0, 0.0125)
    assert pd.isna(row.median_return)
    assert pd.isna(row.median_basis)


def test_an_earlier_ledger_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    head = earlier_ledger(path)
    ledger = Ledger(path)
    issue(ledger, 2, "relative")
    assert ledger.verify(expected_head=head).ok
    assert len(ledger.record("sample")) == 3
    forge(path, "UPDATE forecasts SET target = 'relative', direction = 'above' WHERE batch = 1")
    assert [problem.split(":")[0] for problem in ledger.verify().problems] == [
        "forecast batch 1 (sample, as_of 2018-12-10)"
    ]


def issue(ledger: Ledger, day: int, *targets: str) -> None:
    rows = [
        forecasts(day, ["AAPL", "MSFT"]).assign(
            target=target, direction="up" if target == "direction" else "above"
        )
        for target in targets
    ]
    ledger.issue(
        pd.concat(rows, ignore_index=True),
        universe="sample",
        opens={},
        newest_observed_at=EVENING,
        historical=True,
    )


def test_each_target_has_a_row_and_an_outcome_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    issue(ledger, 0, *TARGETS)
    known = outcomes(0, ["AAPL", "MSFT"])
    judged = known.assign(target="relative", median_return=0.004, median_members=7.0, median_basis="90%")
    assert ledger.settle(pd.concat([known, judged], ignore_index=True), universe="sample") == 4
    record = ledger.record("sample").set_index(["target", "symbol"])
    assert len(record) == 6
    assert record.loc["relative", "median_return"].tolist() == [0.004] * 2
    assert record.loc["relative", "median_members"].tolist() == [7.0] * 2
    assert record.loc["relative", "median_basis"].tolist() == ["90%"] * 2
    assert record.loc["direction", "median_return"].isna().all()
    assert record.loc["overnight_relative", "outcome"].isna().all()
    assert ledger.verify().ok
    ledger.export_csv("sample", tmp_path / "record.csv")
    assert {"target", "median_return", "median_members", "median_basis"} < {
        *pd.read_csv(tmp_path / "record.csv")
    }


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE outcomes SET median_return = 0.02",
        "UPDATE outcomes SET median_basis = '5 sessions'",
        "UPDATE outcomes SET median_members = 3",
        "UPDATE forecasts SET target = 'intraday_relative' WHERE target = 'relative'",
        "UPDATE forecasts SET target = 'direction'",
    ],
)
def test_a_changed_target_or_median_is_named(tmp_path: Path, script: str) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    issue(ledger, 0, "relative")
    judged = {"target": "relative", "median_return": 0.004, "median_members": 7.0, "median_basis": "90%"}
    ledger.settle(outcomes(0, ["AAPL", "MSFT"]).assign(**judged), universe="sample")
    assert ledger.verify().ok
    forge(ledger.path, script)
    assert "its hash does not match its rows" in " ".join(ledger.verify().problems)


def test_a_batch_of_directions_alone_is_hashed_as_before_there_were_targets(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    hash_chain.create(path)
    with hash_chain.opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        hash_chain.append(db, hash_chain.FORECAST, [ROW])
        db.execute("COMMIT")
        sealed = hash_chain.head(db).forecasts
    earlier = tmp_path / "earlier.sqlite"
    earlier_ledger(earlier)
    assert Ledger(earlier, read_only=True).head().forecasts == sealed


def test_what_is_not_nextdays_stays_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    earlier_ledger(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE VIEW mine AS SELECT symbol FROM forecasts")
        db.execute("CREATE TRIGGER foreign_one AFTER INSERT ON forecasts BEGIN SELECT 1; END")
    problems = " ".join(Ledger(path, read_only=True).verify().problems)
    assert "mine" in problems
    assert "foreign_one" in problems
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT symbol FROM mine").fetchall() == [("AAPL",)]


def test_a_median_of_more_members_corrects_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    issue(ledger, 0, "relative")
    judged = {"target": "relative", "median_return": 0.004, "median_members": 7.0, "median_basis": "90%"}
    known = outcomes(0, ["AAPL", "MSFT"]).assign(**judged)
    assert ledger.settle(known, universe="sample") == 2
    again = known.assign(outcome=0.0, median_return=0.012, median_members=9.0)
    assert ledger.settle(again, universe="sample") == 0
    assert ledger.corrections("sample").empty
    assert ledger.settle(again.assign(realized_return=0.002), universe="sample") == 0
    assert len(ledger.corrections("sample")) == 2


HEAD_OF_LAYOUT_2 = "8baa8053db09c4bb6ed2083dd02a612cc4a25acb035b8b71beea6e2b68a181e2"
"""The head of the ledger that `ledger_of_layout_2` writes, as the last nextday of that layout sealed the same rows."""


def ledger_of_layout_2(path: Path) -> Ledger:
    """Write a ledger of directions and relative forecasts, settled, and give it the tables of the second layout."""
    ledger = Ledger(path)
    issue(ledger, 0, "direction", "relative")
    judged = {"target": "relative", "median_return": 0.004, "median_members": 7.0, "median_basis": "90%"}
    known = outcomes(0, ["AAPL", "MSFT"])
    ledger.settle(pd.concat([known, known.assign(**judged)], ignore_index=True), universe="sample")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP VIEW record")
        db.execute("ALTER TABLE outcomes DROP COLUMN void_reason")
        db.execute("PRAGMA user_version = 2")
        db.commit()
    return ledger


def void(day: int, symbols: list[str]) -> pd.DataFrame:
    nothing = {"outcome": float("nan"), "realized_return": float("nan")}
    return outcomes(day, symbols).assign(**nothing, void_reason="the exchange was closed")


def test_a_ledger_from_before_there_were_void_forecasts_keeps_its_hashes_and_goes_on(tmp_path: Path) -> None:
    ledger = ledger_of_layout_2(tmp_path / "ledger.sqlite")
    found = ledger.verify(expected_head=HEAD_OF_LAYOUT_2)
    assert (found.problems, found.head.hash) == ([], HEAD_OF_LAYOUT_2)
    record = ledger.record("sample").set_index(["target", "symbol"])
    assert record["outcome"].tolist() == [1.0] * 4
    assert record.loc["relative", "median_return"].tolist() == [0.004] * 2
    assert record["void_reason"].isna().all()
    issue(ledger, 1, "direction")
    assert ledger.settle(void(1, ["AAPL", "MSFT"]), universe="sample") == 2
    assert ledger.record("sample")["void_reason"].notna().sum() == 2
    assert ledger.verify(expected_head=HEAD_OF_LAYOUT_2).ok


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE outcomes SET void_reason = NULL",
        "UPDATE outcomes SET void_reason = 'a strike' WHERE symbol = 'AAPL'",
    ],
)
def test_a_changed_reason_is_named(tmp_path: Path, script: str) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    issue(ledger, 0, "direction")
    ledger.settle(void(0, ["AAPL", "MSFT"]), universe="sample")
    assert ledger.verify().ok
    forge(ledger.path, script)
    assert "its hash does not match its rows" in " ".join(ledger.verify().problems)


def test_a_void_forecast_has_no_outcome(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    issue(ledger, 0, "direction")
    with pytest.raises(NextdayError, match="void_has_no_outcome"):
        ledger.settle(void(0, ["AAPL"]).assign(outcome=1.0), universe="sample")
