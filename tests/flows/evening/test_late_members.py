"""Which members get a late row for an evening on which their bar was missing, and what the record says of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.evening import late_members
from flows.evening.late_members import _find_late_bars, catch_up_members
from flows.prices.missing import Reasons
from flows.prices.update import read_price_status
from flows.runtime.context import Run
from pipeline.errors import NextdayError
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.quality import no_findings
from pipeline.prices.recent_bars import RecentBars
from pipeline.report.tables import describe_added
from tests.conftest import NOW
from tests.flows.runtime import test_context
from tests.flows.runtime.test_context import issue, lack_bars, run, stored

folder = test_context.folder


@pytest.fixture
def whole(folder: Path) -> str:
    """The prices with a bar of every session, after B's of session 10 and 12 were taken out and the rest stored."""
    whole = (folder / "prices.csv").read_text()
    sessions = run(folder).calendar.sessions
    for place in (10, 12):
        lack_bars(folder, sessions[place], "B")
    made = stored(run(folder))
    issue(made, 10)
    issue(made, 12)
    return whole


def came(made: Run, place: int, seq: int = 1) -> list[str]:
    """Return whose bar came after A's forecast of a session, which the prices of that version were read for."""
    record = made.ledger.record("u")
    as_of = made.calendar.sessions[place]
    standing = record[(record["as_of"] == as_of) & (record["symbol"] == "A")].assign(data_version=seq)
    bars = RecentBars(made.store, made.calendar.sessions[0], made.calendar.sessions[20], made.store.seq())
    return _find_late_bars(made, standing, bars)


def test_a_bar_that_does_not_come_gives_nothing(folder: Path, whole: str) -> None:
    made = stored(run(folder))
    assert (came(made, 10), came(made, 12)) == ([], [])


def test_a_bar_that_came_later_is_found_and_a_gap_before_it_is_waited_for(folder: Path, whole: str) -> None:
    (folder / "prices.csv").write_text(whole)
    lack_bars(folder, run(folder).calendar.sessions[10], "B")
    made = stored(run(folder))
    assert (came(made, 10), came(made, 12)) == ([], [])
    (folder / "prices.csv").write_text(whole)
    made = stored(run(folder))
    assert (came(made, 10), came(made, 12)) == (["B"], ["B"])


def test_a_bar_that_was_there_that_evening_is_not_late_however_often_it_was_revised(
    folder: Path, whole: str
) -> None:
    (folder / "prices.csv").write_text(whole)
    made = stored(run(folder))
    seq = made.store.seq()
    assert came(made, 12, seq) == []
    table = pd.read_csv(folder / "prices.csv")
    day = f"{made.calendar.sessions[12]:%Y-%m-%d}"
    table.loc[(table["symbol"] == "B") & (table["date"] == day), "volume"] *= 2
    table.to_csv(folder / "prices.csv", index=False)
    later = stored(run(folder))
    assert later.store.seq() == seq + 1
    assert came(later, 12, seq) == []


def test_nobody_in_quarantine_and_no_former_member_is_found(folder: Path, whole: str) -> None:
    (folder / "prices.csv").write_text(whole)
    made = stored(run(folder))
    entry = QuarantineEntry("B", "B", NOW, "split fault", "evidence")
    made.fetch_log.record_quarantine("held", [entry], NOW)
    assert came(made, 12) == []
    made.fetch_log.record_quarantine("released", [entry], NOW)
    assert came(made, 12) == ["B"]
    assert came(run(folder, symbols='["A"]'), 12) == []


def test_the_record_names_the_rows_that_were_added() -> None:
    days = pd.to_datetime(["2018-12-10", "2018-12-10", "2018-12-10", "2018-12-11"])
    times = pd.to_datetime(
        ["2018-12-10T22:00Z", "2018-12-11T22:00Z", "2018-12-10T23:00Z", "2018-12-12T22:00Z"]
    )
    rows = pd.DataFrame(
        {"symbol": [*"ABCD"], "as_of": days, "issued_at": times, "kind": ["live", "late", "live", "late"]}
    )
    assert describe_added(rows) == (
        "1 forecast was sealed as late after the others of the session: B from 2018-12-10"
    )
    assert describe_added(rows[rows["kind"] == "live"]) == ""
    many = pd.DataFrame({"symbol": [f"S{n}" for n in range(12)], "as_of": days[0], "kind": "late"}).assign(
        issued_at=[times[0], *[times[1]] * 11]
    )
    assert describe_added(many).endswith("S6, S7, S8 and 3 more from 2018-12-10")


@pytest.mark.parametrize("is_expected", [False, True])
def test_an_error_in_a_late_row_costs_that_row_alone(
    folder: Path,
    whole: str,
    monkeypatch: pytest.MonkeyPatch,
    is_expected: bool,
) -> None:
    (folder / "prices.csv").write_text(whole)
    made = stored(run(folder))
    made.save_settings()
    sessions = made.calendar.sessions
    rows = made.ledger.record("u")
    record: Any = SimpleNamespace(rows=rows[rows["symbol"] == "A"])
    status = replace(read_price_status(made, Reasons(), no_findings()), as_of=sessions[20])
    champions: Any = SimpleNamespace(version=lambda version: None)

    def fail(inputs: Any, model: Any) -> pd.DataFrame:
        if inputs.as_of == sessions[10]:
            raise NextdayError("its files are gone") if is_expected else ZeroDivisionError("no volume")
        return rows[rows["symbol"] == "B"].iloc[:0]

    monkeypatch.setattr(late_members, "forecast_late", fail)
    head = made.ledger.head()
    remarks = catch_up_members(made, status, record, champions)
    said = [f"{sessions[10]:%a %Y-%m-%d}: B cannot be caught up: ZeroDivisionError: no volume"]
    assert [remark.partition(" (")[0] for remark in remarks] == ([] if is_expected else said)
    assert made.ledger.head() == head
