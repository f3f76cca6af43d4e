"""The evening in Markdown and as rows of a table, for Prefect and the terminal."""

from pathlib import Path

from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.tables import forecast_rows
from tests.pipeline.report.test_files import a_report


def test_the_summary_shows_the_farthest_from_the_base_rate_and_counts_the_rest() -> None:
    report = a_report(*(f"S{i}" for i in range(50)))
    lines = [line for line in summary_markdown(report).splitlines() if line.startswith("| S")]
    assert len(lines) == 20
    assert lines[0].startswith("| S0 ")  # 49.0% against 53.0%; the other end is 56.0%
    assert "30 more in forecast.csv" in summary_markdown(report)


def test_a_score_of_the_summary_has_its_interval_n_and_baseline() -> None:
    row = "| hit rate | 52.0% | 51.0% to 53.0% | 240 (150) | 120 | 51.0% base_rate | 0.400 |"
    assert row in summary_markdown(a_report())


def test_the_rows_for_a_table_are_short_texts_by_symbol() -> None:
    assert forecast_rows(a_report("^IXIC", "^GSPC"))[1] == {
        "symbol": "^IXIC",
        "direction": "up",
        "P(up)": "49.0%",
        "band": "48.0% to 57.0%",
        "base rate": "≈ 53.0%",
        "last close": "2,506.85",
        "kind": "late",
    }


def test_the_summary_names_the_page() -> None:
    page = Path("/w/reports/sample/2019-01-02/report.html")
    assert f"The whole report: `{page}`" in summary_markdown(a_report(), page)
    assert "whole report" not in summary_markdown(a_report())


def test_the_summary_says_which_forecasts_are_the_base_rate() -> None:
    assert "the base rate lies within the band (marked ≈)" in summary_markdown(a_report())


def test_the_sentences_above_the_forecasts_stand_apart() -> None:
    page = render(a_report())
    assert "dividends included.\nThe band" in page
