"""What was answered, and who is in quarantine: rows are only added, the newest ones tell the state."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import StoreError
from pipeline.prices.ingest.fetch_log import Answer, FetchLog, QuarantineEntry

MONDAY = pd.Timestamp("2018-12-10")
NOW = datetime(2018, 12, 10, 22, tzinfo=UTC)
HOLD = QuarantineEntry("A", "A", NOW, "split fault", "ten of sixteen")


@pytest.fixture
def log(tmp_path: Path) -> FetchLog:
    return FetchLog(tmp_path / "prices" / "u.fetches.sqlite")


def log_line(log: FetchLog, outcomes: str, *, whole: bool = False, start: str = "2018-01-02") -> None:
    """Record one evening for each letter: o(k), n(ot found), t(ransient), e(mpty)."""
    names = {"o": "ok", "n": "not_found", "t": "transient", "e": "empty"}
    for day, letter in enumerate(outcomes):
        answer = Answer("A", names[letter], whole, pd.Timestamp(start), NOW)  # type: ignore[arg-type]
        log.record(MONDAY + timedelta(days=day), [answer])


def test_a_log_that_is_not_there_reads_as_an_empty_one_and_is_not_made_by_reading(log: FetchLog) -> None:
    assert (log.holds(), log.whole_from(), log.times_unknown()) == ({}, {}, {})
    assert log.events().empty
    assert not log.path.exists()


def test_the_first_answer_of_a_kind_counts_and_a_rerun_adds_none(log: FetchLog) -> None:
    for reason in ("one", "two"):
        log.record(MONDAY, [Answer("A", "transient", False, MONDAY, NOW, reason=reason)])
    with sqlite3.connect(log.path) as db:
        assert db.execute("SELECT reason FROM answers").fetchall() == [("one",)]
    db.close()


@pytest.mark.parametrize(
    ("evenings", "times"),
    [("n", 1), ("nnnnn", 5), ("onnn", 3), ("nnno", 0), ("nnnon", 1), ("ntntn", 3), ("nnen", 1)],
)
def test_how_often_in_a_row_a_symbol_was_unknown(log: FetchLog, evenings: str, times: int) -> None:
    log_line(log, evenings)
    assert log.times_unknown().get("A", 0) == times


def test_the_whole_history_counts_from_the_earliest_answer_that_held_it(log: FetchLog) -> None:
    log_line(log, "o")
    assert log.whole_from() == {}
    log_line(log, "o", whole=True, start="2017-01-03")
    log_line(log, "to", whole=True, start="2016-01-04")
    log_line(log, "t", whole=True, start="2015-01-02")
    assert log.whole_from() == {"A": pd.Timestamp("2016-01-04")}


def test_a_hold_is_released_by_a_person_and_ends_when_its_bars_are_in(log: FetchLog) -> None:
    log.put("held", [HOLD], NOW)
    assert log.holds() == {"A": HOLD}
    log.put("released", [HOLD], NOW)
    assert log.holds() == {"A": replace(HOLD, is_released=True)}
    log.put("ended", [HOLD], NOW)
    assert log.holds() == {}
    assert log.events()["event"].tolist() == ["held", "released", "ended"]


def test_a_fault_after_a_release_holds_again(log: FetchLog) -> None:
    for event in ("held", "released", "ended", "held"):
        log.put(event, [HOLD], NOW)  # type: ignore[arg-type]
    assert not log.holds()["A"].is_released


def test_a_damaged_or_newer_log_says_what_to_do(log: FetchLog) -> None:
    log.put("held", [HOLD], NOW)
    with sqlite3.connect(log.path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StoreError, match="newer nextday"):
        log.holds()
    log.path.write_bytes(b"no database at all, but longer than a header of sqlite: " * 20)
    with pytest.raises(StoreError, match="cannot be used") as error:
        log.record(MONDAY, [])
    assert "backup" in error.value.fix


def test_a_batch_that_fails_leaves_nothing_of_itself(log: FetchLog) -> None:
    log.put("held", [HOLD], NOW)
    broken = replace(HOLD, instrument_id=None)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        log.put("ended", [HOLD, broken], NOW)
    assert list(log.holds()) == ["A"]
