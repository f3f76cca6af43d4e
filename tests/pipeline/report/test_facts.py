"""The key facts and notes around the numbers: the same words on the page and in the summary."""

import html
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.evaluation.rolling import roll_hit_rate
from pipeline.formatting import describe_lead
from pipeline.monitoring.decay import Decay
from pipeline.outputs import MAIN, Output
from pipeline.report.charts.evaluation import hit_rate_limits
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.facts import OLD_MODEL, collect_key_facts
from pipeline.report.files import write
from tests.pipeline.report.test_files import (
    EVENING,
    UNDRAWN,
    a_report,
    figures,
    scored,
    settled_record,
    titles,
    told,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page() -> str:
    return render(a_report())


@pytest.fixture(scope="module")
def long_page() -> str:
    return render(a_report(*(f"S{i}" for i in range(500)), figures=UNDRAWN))


def page_text(report: Report) -> str:
    """Return the text of the page without tags and figures."""
    text = re.sub(r"</?span[^>]*>", "", render(replace(report, figures=UNDRAWN)))
    text = re.sub(r"<(style|script|svg).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def test_freshness_age_and_head_are_the_same_on_page_and_summary() -> None:
    report = a_report(historical=False, model_age=12, sessions_behind=1)
    facts = {fact.name: f"{fact.text} {fact.more}" for fact in collect_key_facts(report)}
    assert facts["prices"] == (
        "reach Mon 2018-12-31 observed 2 hours before the forecasts were issued; 1 session behind; "
        "2 of 2 constituents have a bar"
    )
    assert facts["model"] == (
        "12 sessions old gru-1, trained through Mon 2018-12-31, promoted Mon 2018-12-31 22:04 UTC"
    )
    assert facts["record"] == "2 sealed, none settled no outcome to score yet"
    page, summary = page_text(report), summary_markdown(report)
    for fact in collect_key_facts(report):
        assert f"{fact.name} {fact.text} {fact.more}" in page
        assert f"- {fact.name}: **{fact.text}**; {fact.more}" in summary
    head = f"nextday ledger verify --head {report.ledger_head}"
    assert page.index("prices reach") < page.index(head) < page.index("Each row gives")
    assert f"`{head}`" in summary


@pytest.mark.parametrize(
    "bias",
    [
        "survivorship-biased: the constituent list has no entry and exit dates",
        "survivorship-biased: 12 of 30 entries of the list have no dates",
    ],
)
def test_coverage_and_survivorship_are_reported_by_page_summary_and_csv(tmp_path: Path, bias: str) -> None:
    report = a_report(covered=29, members=30, bias=bias)
    page, summary = page_text(report), summary_markdown(report)
    said = f"29 of 30 constituents have a bar; {bias}"
    assert said in page
    assert said in summary
    assert f"{bias.capitalize()}. Entries without dates count as constituents in every past session" in page
    table = pd.read_csv(write(report, tmp_path).forecast_csv)
    assert table["coverage"].tolist() == pytest.approx([29 / 30] * 2, abs=1e-6)
    assert table["survivorship_biased"].tolist() == [True, True]


def test_with_dates_for_all_members_only_coverage_is_reported(tmp_path: Path) -> None:
    report = a_report(covered=2, members=2, bias="")
    page, summary = page_text(report), summary_markdown(report)
    for text in (page, summary):
        assert "2 of 2 constituents have a bar" in text
        assert "survivorship" not in text.lower()
    assert pd.read_csv(write(report, tmp_path).latest_csv)["survivorship_biased"].tolist() == [False, False]


def test_a_source_that_ended_is_not_behind() -> None:
    report = a_report(historical=True, sessions_behind=1900)
    assert "the source ends there" in page_text(report)
    assert "behind" not in summary_markdown(report)


@pytest.mark.parametrize(("age", "has_warning"), [(OLD_MODEL, False), (OLD_MODEL + 1, True)])
def test_an_old_model_gives_a_warning(age: int, has_warning: bool) -> None:
    report = a_report(model_age=age)
    for text in (page_text(report), summary_markdown(report)):
        assert ("older than 63 sessions: nextday retrain" in text) == has_warning


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds before"), (-61, "61 seconds after"), (89 * 60, "89 minutes before"),
     (90 * 60, "2 hours before"), (2 * 86400, "2 days before")],
)  # fmt: skip
def test_a_lead_is_given_in_the_largest_unit_that_is_precise_enough(seconds: int, words: str) -> None:
    assert describe_lead(EVENING, EVENING - timedelta(seconds=seconds)) == words


def test_the_live_record_comes_with_interval_n_and_baseline() -> None:
    both = pd.concat([scored("late"), scored("live")])
    record = pd.concat([settled_record("late"), settled_record("live")])
    facts = {fact.name: fact for fact in collect_key_facts(a_report(record=record, live_scores=both))}
    assert facts["record"].text == "480 sealed, 480 settled"
    assert facts["record"].more == (
        "live hit rate 52.0%, 95% interval 51.0% to 53.0%, n 240 over 120 sessions; base_rate 51.0%"
    )


def test_void_forecasts_are_counted_apart_and_named_with_their_reason() -> None:
    record = settled_record("live")
    days = sorted(record["target_session"].unique())[:1]
    is_void = record["target_session"].isin(days)
    reason = pd.Series(None, record.index, dtype="str").mask(
        is_void, "the exchange was closed on Tue 2018-01-02"
    )
    report = a_report(record=record.assign(outcome=record["outcome"].mask(is_void), void_reason=reason))
    facts = {fact.name: fact for fact in collect_key_facts(report)}
    assert facts["record"].text == "240 sealed, 238 settled, 2 void"
    text = page_text(report)
    assert "238 with an outcome, 0 still open, 2 void." in text
    assert "2 forecasts are void: the exchange was closed on Tue 2018-01-02. They count in no score." in text
    assert " void" not in page_text(a_report(record=record))


def test_the_record_gives_the_hit_rate_where_a_direction_was_issued() -> None:
    issued = scored("live, sides taken").assign(value=0.534, n=150)
    live = pd.concat([scored("late"), scored("live"), issued])
    facts = {
        fact.name: fact
        for fact in collect_key_facts(a_report(record=settled_record("live"), live_scores=live))
    }
    assert facts["record"].more == (
        "live hit rate 52.0%, 95% interval 51.0% to 53.0%, n 240 over 120 sessions; base_rate 51.0%; "
        "where a direction was issued 53.4%, 95% interval 51.0% to 53.0%, n 150 over 120 sessions; base_rate 51.0%"
    )


def test_the_record_is_next_to_the_backtest_on_one_scale() -> None:
    backtest, record = (
        roll_hit_rate(rows, rows.assign(p_up=0.53)) for rows in (told("gru", 5), told("gru", 6))
    )
    limits = hit_rate_limits(backtest, record.assign(low=0.2))
    assert limits[0] < 0.2
    assert limits[1] > max(backtest["high"].max(), record["high"].max())
    page = render(a_report(record=settled_record("live")))
    assert {
        f"Rolling hit rate of the {name} with its 95% interval" for name in ("backtest", "record")
    } <= titles(page)
    assert "its live rows" in page


def test_a_short_record_shows_how_many_sessions_are_missing() -> None:
    record = settled_record("live")
    few = record[record["target_session"].isin(sorted(record["target_session"].unique())[:12])]
    assert "Its first point needs 60 settled sessions; the ledger has 12." in page_text(a_report(record=few))


def test_figures_describe_their_numbers_in_words(page: str) -> None:
    described = {figure.findtext("title"): figure.findtext("desc") or "" for figure in figures(page)}
    assert re.search(
        r"\d\d\.\d% forecast, \d\d\.\d% went up \(\d\d\.\d% to \d\d\.\d%, n \d+\)",
        described["Reliability diagram: forecast against outcome"],
    )
    assert re.search(
        r"is \d\d\.\d% \(\d\d\.\d% to", described["Rolling hit rate of the backtest with its 95% interval"]
    )
    assert "2 ensemble members, up to 4 epochs" in described["Training curves"]


def test_every_table_has_a_caption_and_every_head_a_scope(page: str, long_page: str) -> None:
    for text in (page, long_page):
        assert (
            text.count("<table")
            == text.count("<caption>")
            == len(re.findall(r"<table[^>]*><caption>", text))
            > 3
        )
        assert "<th>" not in text
        assert not [head for head in re.findall(r"<th [^>]*>", text) if "scope=" not in head]


def test_a_day_is_never_broken_in_two_lines(page: str) -> None:
    assert 'trained through <span class="whole">Mon 2018-12-31</span>' in page


def test_the_decay_alarm_is_said_with_its_evidence_and_a_way_on() -> None:
    since = pd.Timestamp("2018-11-02")
    fine = Decay(MAIN, "as expected", 84, evidence=0.4, against="base rate", saved=0.0012, floor=0.0004)
    bad = Decay(Output("direction", 5), "decayed", 84, 31.2, "backtest", since, since, -0.0021, 0.0004)
    report = a_report(decay=[fine, bad], drift="The inputs have moved.")
    (fact,) = [each for each in collect_key_facts(report) if each.name == "decay alarm"]
    assert fact.text == "decayed since 2018-11-02"
    assert (
        "evidence of decay 31.2 (doubtful from 5, decayed from 20); most of it against the backtest"
        in fact.more
    )
    assert (
        "next session: as expected; 84 live sessions, +1.20 thousandths of a nat saved per session"
        in fact.more
    )
    assert "The inputs have moved. nextday alarm accept" in fact.warning
    assert "No direction is given" not in fact.warning
    for text in (page_text(report), summary_markdown(report)):
        assert "decayed since 2018-11-02" in text
    none = report.forecasts.assign(direction="none")
    stopped = a_report(decay=[bad], forecasts=none)
    (fact,) = [each for each in collect_key_facts(stopped) if each.name == "decay alarm"]
    assert "No direction is given." in fact.warning


def test_a_record_as_expected_raises_no_warning_and_a_young_one_says_how_young() -> None:
    (fine,) = [
        each
        for each in collect_key_facts(a_report(decay=[Decay(MAIN, "as expected", 84, 0.4)]))
        if each.name == "decay alarm"
    ]
    assert (fine.text, fine.warning) == ("as expected", "")
    early = a_report(decay=[Decay(MAIN, "too early", 3)])
    (fact,) = [each for each in collect_key_facts(early) if each.name == "decay alarm"]
    assert (fact.text, fact.more) == ("too early: 3 sessions", "it is tested from 20 live sessions on")
    assert "decay alarm" not in {each.name for each in collect_key_facts(a_report())}  # a historical source
