"""A report of several horizons: a column for each, scores and verdicts apart, the next session first."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.evaluation.rolling import select_record
from pipeline.outputs import MAIN
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.facts import collect_key_facts
from pipeline.report.files import FORECAST_COLUMNS, write
from pipeline.report.output_tables import pivot_by_symbol
from pipeline.report.tables import forecast_rows, select_own_scores
from tests.pipeline.report.test_files import (
    a_report,
    forecasts,
    open_record,
    scored,
    settled_record,
    told,
    verdict,
)
from tests.support.made_sequences import directions

AHEAD = (1, 5, 20)


TARGETS = dict(zip(AHEAD, map(pd.Timestamp, ("2019-01-02", "2019-01-08", "2019-01-30")), strict=True))


def issued_ahead(*symbols: str) -> pd.DataFrame:
    parts = [
        forecasts(*symbols, horizon=h, target_session=TARGETS[h], baseline_p_up=0.53 + h / 200) for h in AHEAD
    ]
    return pd.concat(parts, ignore_index=True)


def a_far_report(*symbols: str, **fields: object) -> Report:
    issued = issued_ahead(*(symbols or ("^GSPC", "^IXIC")))
    rows = [
        told(model, seed).assign(horizon=h) for h in AHEAD for seed, model in enumerate(("gru", "base_rate"))
    ]
    late = pd.concat([scored("late", h).assign(value=0.5 + h / 100) for h in AHEAD])
    backtest = pd.concat([scored("all", h) for h in AHEAD])
    usual = {
        "forecasts": issued, "record": pd.concat([settled_record("late"), open_record(issued)]), "scores": backtest,
        "live_scores": late, "test_rows": pd.concat(rows),
        "further": dict(zip(directions(5, 20), (verdict("edge"), verdict("not enough data")), strict=True)),
    }  # fmt: skip
    return a_report(**usual | fields)


@pytest.fixture(scope="module")
def far_page() -> str:
    return render(a_far_report())


def test_the_csv_begins_with_the_next_session_and_names_the_horizon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.files.render", lambda report: "a page")
    paths = write(a_far_report("^IXIC", "^GSPC"), tmp_path)
    assert paths.folder.name == "2019-01-02"
    read = pd.read_csv(paths.forecast_csv)
    assert list(read.columns) == FORECAST_COLUMNS
    assert read[["horizon", "symbol"]].values.tolist() == [[h, s] for h in AHEAD for s in ("^GSPC", "^IXIC")]
    assert read["target_session"].tolist() == [f"{TARGETS[h]:%Y-%m-%d}" for h in AHEAD for _ in range(2)]
    # The next evening's file takes its place, though the farthest session of this one lies later.
    later = pd.Timestamp("2019-01-03")
    issued = (
        issued_ahead("^GSPC")
        .query("horizon == 1")
        .assign(as_of=pd.Timestamp("2019-01-02"), target_session=later)
    )
    newer = write(a_report(forecasts=issued, target_session=later), tmp_path)
    assert newer.latest_csv.read_bytes() == newer.forecast_csv.read_bytes()
    write(a_far_report(record=open_record(pd.concat([issued_ahead("^GSPC"), issued]))), tmp_path)
    assert newer.latest_csv.read_bytes() == newer.forecast_csv.read_bytes()


@pytest.mark.slow
def test_the_page_has_one_row_a_symbol_and_one_column_a_horizon(far_page: str) -> None:
    table = re.search(r'<table class="sortable">.*?</table>', far_page, flags=re.DOTALL)
    assert table
    assert re.findall(r'<th scope="row">(.*?)</th>', table[0]) == ["^GSPC", "^IXIC"]
    heads = re.findall(r'<th scope="col"[^>]*>([^<]+?) <span class="under">(.*?)</span>', table[0])
    assert heads == [
        ("next session", "2019-01-02"),
        ("5 sessions", "2019-01-08"),
        ("20 sessions", "2019-01-30"),
    ]
    assert len(re.findall("base (?:≈ )?[56]", table[0])) == 6
    assert "6 forecasts, 1, 5 and 20 sessions ahead," in far_page
    assert "Forecasts for Wednesday," in far_page


def test_the_verdicts_stand_apart(far_page: str) -> None:
    assert "Verdict on the method, next session" in far_page
    farther = far_page[far_page.index("Farther horizons") : far_page.index("<h2>Forecasts</h2>")]
    assert re.findall(r'<th scope="row">(.*?)</th>', farther) == ["5 sessions ahead", "20 sessions ahead"]
    assert "edge <span" in farther
    assert "not enough data <span" in farther


def test_scores_and_reliability_stand_by_horizon(far_page: str) -> None:
    heads = re.findall(r"<h3>gru, (.*?)</h3>", far_page)
    assert heads == [
        "backtest, all test rows", "backtest, 5 sessions ahead", "backtest, 20 sessions ahead",
        "late rows of the record", "late rows of the record, 5 sessions ahead",
        "late rows of the record, 20 sessions ahead",
    ]  # fmt: skip
    titles = re.findall(r"<title[^>]*>(Reliability.*?)</title>", far_page)
    assert titles == [
        f"Reliability diagram: forecast against outcome{end}"
        for end in ("", ", 5 sessions ahead", ", 20 sessions ahead")
    ]
    ids = re.findall(r'\bid="([^"]+)"', far_page)
    assert len(ids) == len(set(ids))
    assert "an embargo of 20 sessions" in far_page


def test_live_groups_come_before_late_ones() -> None:
    live = pd.concat([scored(kind, h) for kind in ("late", "live") for h in AHEAD])
    own = select_own_scores(a_far_report(live_scores=live))[["group", "horizon"]].drop_duplicates()
    keys = [*own.itertuples(index=False, name=None)]
    assert keys == [(kind, h) for kind in ("all", "live", "late") for h in AHEAD]


def test_the_key_fact_is_the_hit_rate_of_the_next_session() -> None:
    facts = {fact.name: fact.more for fact in collect_key_facts(a_far_report())}
    assert facts["record"].startswith("late hit rate (next session) 51.0%")


def test_the_record_is_drawn_by_the_next_session() -> None:
    far = settled_record("live").assign(horizon=20)
    assert set(select_record(pd.concat([settled_record("live"), far]), MAIN)["horizon"]) == {1}


def test_summary_and_table_have_one_row_a_symbol() -> None:
    report = a_far_report()
    rows = forecast_rows(report)
    assert [row["symbol"] for row in rows] == ["^GSPC", "^IXIC"]
    assert rows[0]["5 sessions ahead"] == "up 49.0% (≈ 55.5%)"
    summary = summary_markdown(report)
    assert "| symbol | next session | 5 sessions ahead | 20 sessions ahead | last close | kind |" in summary
    assert "Edge: over 120 sessions" in summary
    assert "6 forecasts, 1, 5 and 20 sessions ahead, from the close" in summary


@pytest.mark.slow
def test_a_horizon_that_a_symbol_lacks_is_a_dash() -> None:
    issued = issued_ahead("A", "B")
    lacking = issued[~((issued["symbol"] == "B") & (issued["horizon"] == 20))]
    assert [[*row.by_output] for row in pivot_by_symbol(lacking)] == [
        [*directions(1, 5, 20)],
        [*directions(1, 5)],
    ]
    assert "<td>–</td>" in render(a_far_report(forecasts=lacking))


def test_the_last_call_stands_beside_the_output_that_it_was_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.files.render", lambda report: "a page")
    issued = forecasts("A", "B")
    both = pd.concat([issued, issued.assign(target="relative", direction="above")], ignore_index=True)
    calls = pd.DataFrame({"symbol": ["A", "B"], "call": ["right", "wrong"], "is_settled": False}).assign(
        target_session=issued["as_of"], direction="up", realized_return=0.01
    )
    table = pd.read_csv(write(a_report(forecasts=both, last_calls=calls), tmp_path).forecast_csv)
    assert table["target"].tolist() == ["direction"] * 2 + ["relative"] * 2
    assert table["last_call"].fillna("").tolist() == ["right", "wrong", "", ""]
