"""The calendar of sessions: live, late, missed and closed days, told apart."""

import pandas as pd

from pipeline.report.site.months import count_years, judge_days, list_months
from tests.bench.market import DAYS
from tests.support.made_site import a_record


def december() -> pd.DataFrame:
    """Return a record whose first three sessions are late, as one row of another; one session is missed."""
    record = a_record(["A", "B"], 20, late=3)
    days = record["as_of"].drop_duplicates()
    mixed = (record["as_of"] == days.iloc[10]) & (record["symbol"] == "A")
    record.loc[mixed, "kind"] = "late"
    return record[record["as_of"] != days.iloc[12]]


def test_each_session_is_what_became_of_its_forecasts() -> None:
    judged = judge_days(december(), DAYS.sessions)
    assert judged["state"].value_counts().to_dict() == {"live": 15, "late": 4, "missed": 1}
    assert judged.index[-1] == pd.Timestamp("2019-01-02")
    mixed = judged[(judged["live"] > 0) & (judged["live"] < judged["rows"])]
    assert mixed["state"].tolist() == ["late"]
    assert judged[judged["state"] == "missed"]["rows"].tolist() == [0]


def test_a_day_links_its_evening_and_holidays_are_closed() -> None:
    judged = judge_days(december(), DAYS.sessions)
    january, last = list_months(judged, DAYS.weekdays, ["2018-12-24"])
    assert (january.name, last.name) == ("January 2019", "December 2018")
    days = {day.date: day for day in last.days if day.number}
    assert days["2018-12-25"].state == "closed"
    assert days["2018-12-05"].state == "closed"  # the day of mourning for a president
    assert days["2018-12-24"].link == "2018-12-24/report.html"
    assert days["2018-12-26"].link == ""
    assert "2 forecasts" in days["2018-12-24"].words
    assert [day.number for day in last.days[:6]] == [3, 4, 5, 6, 7, 10]  # a Monday first, no weekend
    first = next(day for day in january.days if day.number)
    assert (first.date, first.state) == ("2019-01-01", "closed")
    assert january.days[0].number == 0  # a Monday that is in December
    assert {day.state for day in january.days if day.number > 2} == {""}


def test_years_are_counted() -> None:
    years = count_years(judge_days(december(), DAYS.sessions))
    assert [(year.name, year.live, year.late, year.missed) for year in years] == [
        ("2019", 1, 0, 0),
        ("2018", 14, 4, 1),
    ]


def test_an_empty_record_has_no_calendar() -> None:
    judged = judge_days(december().head(0), DAYS.sessions)
    assert list_months(judged, DAYS.weekdays, []) == []
    assert count_years(judged) == []
