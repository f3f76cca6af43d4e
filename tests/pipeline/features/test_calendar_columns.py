"""The columns on the next session: what they say, and that no bar and no later session changes them."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.feature_checks import check_changed, check_cut_off, check_order, check_reach
from pipeline.features.calendar_columns import CALENDAR_COLUMNS, with_calendar
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.market.calendar import Calendar, calendar
from tests.conftest import laid_out, prices_of, random_bars
from tests.pipeline.audit.conftest import audit_of, market


def test_every_symbol_of_a_session_reads_what_the_exchange_plans(xnys: Calendar) -> None:
    sessions = xnys.sessions_between(pd.Timestamp("2018-06-01"), pd.Timestamp("2018-12-31"))
    bars = {"A": random_bars(sessions, 1), "B": random_bars(sessions, 2)}
    panel = laid_out(prices_of(bars, xnys), sessions, ["A", "B"])
    features = with_calendar(FEATURE_SETS["own"], xnys)
    made = features.compute(panel, panel.has_bar)
    at = sessions.get_loc(pd.Timestamp("2018-11-21"))
    row = {name: made[name].iloc[at].tolist() for name in CALENDAR_COLUMNS}
    assert row == {
        **{f"next_is_{day}": [0.0, 0.0] for day in ("monday", "tuesday", "wednesday", "thursday")},
        "next_is_friday": [1.0, 1.0],
        "next_is_turn_of_month": [0.0, 0.0],
        "next_is_half_day": [1.0, 1.0],
        "next_sessions_since_holiday": [0.0, 0.0],
        "next_sessions_to_holiday": [10.0, 10.0],
    }
    assert features.columns == (*FEATURE_SETS["own"].columns, *CALENDAR_COLUMNS)
    assert (features.label, features.reach) == ("own + calendar", FEATURE_SETS["own"].reach)


@pytest.mark.parametrize("name", ["own", "closes"])
def test_the_audit_finds_nothing(xnys: Calendar, name: str) -> None:
    audit = audit_of(market(xnys), with_calendar(FEATURE_SETS[name], xnys))
    known = audit.make()
    for found in (check_cut_off(audit, known, 4), check_changed(audit, known, 4), check_order(audit, known)):
        assert (found.status, "bit for bit" in found.evidence) == ("passed", True), found
    assert check_reach(audit, known, 4).status == "passed"


def test_a_later_clock_changes_no_earlier_row(xnys: Calendar) -> None:
    early = calendar("XNYS", date(1999, 1, 1), datetime(2016, 3, 1, tzinfo=UTC))
    sessions = early.sessions_between(pd.Timestamp("1999-01-04"), pd.Timestamp("2016-02-29"))
    first, second = early.schedule, xnys.schedule
    days = first.next_expected(sessions)
    assert days.equals(second.next_expected(sessions))
    for one, other in (
        (first.sessions_to_holiday(days), second.sessions_to_holiday(days)),
        (first.sessions_since_holiday(sessions, days), second.sessions_since_holiday(sessions, days)),
        (first.is_turn_of_month(days), second.is_turn_of_month(days)),
        (first.is_half_day(days), second.is_half_day(days)),
    ):
        np.testing.assert_array_equal(one, other)
