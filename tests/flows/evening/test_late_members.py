"""Which members get a late row for an evening on which their bar was missing, and what the record says of it."""

from pathlib import Path

import pandas as pd
import pytest

from flows.evening.late_members import _find_late_bars
from flows.runtime.context import Run
from pipeline.prices.ingest.fetch_log import QuarantineEntry
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
