"""The fetch log and the quarantine: rows are only added, and the newest ones give the state."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import StoreError
from pipeline.prices.ingest.fetch_log import Answer, FetchLog, QuarantineEntry
from pipeline.prices.ingest.fetch_log_tables import open_tables
from pipeline.storage.workspace import Workspace

MONDAY = pd.Timestamp("2018-12-10")
NOW = datetime(2018, 12, 10, 22, tzinfo=UTC)
ENTRY = QuarantineEntry("A", "A", NOW, "split fault", "ten of sixteen")


@pytest.fixture
def file(tmp_path: Path) -> FetchLog:
    return FetchLog(Workspace(tmp_path).fetch_log("u"))


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> FetchLog:
    """An empty log: the test runs on each database."""
    address = "" if request.param == "sqlite" else request.getfixturevalue("address")
    return FetchLog(Workspace(tmp_path, address).fetch_log("u"))


def log_line(log: FetchLog, outcomes: str, *, whole: bool = False, start: str = "2018-01-02") -> None:
    """Record one session per letter: o(k), n(ot found), t(ransient), e(mpty)."""
    names = {"o": "ok", "n": "not_found", "t": "transient", "e": "empty"}
    for day, letter in enumerate(outcomes):
        answer = Answer("A", names[letter], whole, pd.Timestamp(start), NOW)  # type: ignore[arg-type]
        log.record(MONDAY + timedelta(days=day), [answer])


def test_a_log_that_is_not_there_reads_as_an_empty_one_and_is_not_made_by_reading(log: FetchLog) -> None:
    assert (log.quarantined(), log.whole_from(), log.not_found_streaks()) == ({}, {}, {})
    assert log.events().empty
    assert log.answered_since(MONDAY) is None


def test_reading_makes_no_file(file: FetchLog, tmp_path: Path) -> None:
    assert file.quarantined() == {}
    assert [*tmp_path.rglob("*")] == []


def test_of_repeated_answers_the_first_is_kept(log: FetchLog) -> None:
    for reason in ("one\0", "two"):
        log.record(MONDAY, [Answer("A", "transient", False, MONDAY, NOW, reason=reason)])
    assert open_tables(log.place).select("SELECT reason FROM answers") == [("one\\x00",)]


@pytest.mark.parametrize(
    ("evenings", "times"),
    [("n", 1), ("nnnnn", 5), ("onnn", 3), ("nnno", 0), ("nnnon", 1), ("ntntn", 3), ("nnen", 1)],
)
def test_not_found_streaks_count_sessions_since_the_last_answer(
    log: FetchLog, evenings: str, times: int
) -> None:
    log_line(log, evenings)
    assert log.not_found_streaks().get("A", 0) == times


def test_the_whole_history_counts_from_its_earliest_delivered_start(log: FetchLog) -> None:
    log_line(log, "o")
    assert log.whole_from() == {}
    log_line(log, "o", whole=True, start="2017-01-03")
    log_line(log, "to", whole=True, start="2016-01-04")
    log_line(log, "t", whole=True, start="2015-01-02")
    assert log.whole_from() == {"A": pd.Timestamp("2016-01-04")}


def test_a_quarantine_entry_is_released_by_the_user_and_ends_once_its_bars_are_stored(log: FetchLog) -> None:
    log.record_quarantine("held", [ENTRY], NOW)
    assert log.quarantined() == {"A": ENTRY}
    log.record_quarantine("released", [ENTRY], NOW)
    assert log.quarantined() == {"A": replace(ENTRY, is_released=True)}
    log.record_quarantine("ended", [ENTRY], NOW)
    assert log.quarantined() == {}
    assert log.events()["event"].tolist() == ["held", "released", "ended"]


def test_a_fault_after_a_release_quarantines_again(log: FetchLog) -> None:
    for event in ("held", "released", "ended", "held"):
        log.record_quarantine(event, [ENTRY], NOW)  # type: ignore[arg-type]
    assert not log.quarantined()["A"].is_released


def test_a_damaged_or_newer_log_is_an_error_with_a_fix(file: FetchLog) -> None:
    log = file
    assert isinstance(log.place, Path)
    log.record_quarantine("held", [ENTRY], NOW)
    with sqlite3.connect(log.place) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StoreError, match="newer nextday"):
        log.quarantined()
    log.place.write_bytes(b"no database at all, but longer than a header of sqlite: " * 20)
    with pytest.raises(StoreError, match="cannot be used") as error:
        log.record(MONDAY, [])
    assert "backup" in error.value.fix


def test_a_batch_that_fails_leaves_nothing_of_itself(log: FetchLog) -> None:
    log.record_quarantine("held", [ENTRY], NOW)
    broken = replace(ENTRY, instrument_id=None)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        log.record_quarantine("ended", [ENTRY, broken], NOW)
    assert list(log.quarantined()) == ["A"]


@pytest.mark.parametrize(
    ("since", "answered"), [("2018-12-10", ["2018-12-10", "2018-12-13"]), ("2018-12-14", [])]
)
def test_answered_sessions_are_those_with_bars_or_without_news(
    log: FetchLog, since: str, answered: list[str]
) -> None:
    log_line(log, "onte")
    found = log.answered_since(pd.Timestamp(since))
    assert found == ({"A": [pd.Timestamp(day) for day in answered]} if answered else {})


def test_the_last_answer_to_a_whole_request_and_who_was_ever_released_are_remembered(log: FetchLog) -> None:
    log_line(log, "ont", whole=True)
    assert log.last_whole_answer() == {"A": pd.Timestamp("2018-12-11")}
    log.record_quarantine("held", [ENTRY], NOW)
    log.record_quarantine("released", [ENTRY], NOW)
    assert log.released() == {"A"}
