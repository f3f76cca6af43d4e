"""Figures that were stored with an evaluation stand on the page as they are: only what changes is drawn anew."""

import pandas as pd
import pytest

from pipeline.report.charts import coverage, evaluation
from pipeline.report.evening_page import evaluation_figures, render
from pipeline.report.evening_report import Report
from tests.pipeline.report.test_files import a_report, settled_record, titles


@pytest.fixture(scope="module")
def report() -> Report:
    return a_report(record=settled_record("live"))


@pytest.fixture(scope="module")
def stored(report: Report) -> dict[str, str]:
    """The figures as they are drawn at the training, when the record has no row yet."""
    return dict(evaluation_figures(report, report.record.head(0)))


@pytest.mark.slow
def test_the_page_is_the_same_with_stored_figures_as_with_drawn_ones(
    report: Report, stored: dict[str, str]
) -> None:
    assert {"difference", "methods", "reliability", "rolling", "coverage", "training", "ranges"} <= {*stored}
    assert render(a_report(record=report.record, figures=stored)) == render(report)


def test_stored_figures_are_not_drawn_again(
    report: Report, stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    for module in (evaluation, coverage):
        monkeypatch.setattr(module, "to_svg", lambda figure, title, description: drawn.append(title) or "")
    render(a_report(record=report.record, figures=stored))
    assert [title.split(",")[0].split(" with")[0] for title in drawn] == [
        "Probability of up",
        "Rolling hit rate of the backtest",
        "Rolling hit rate of the record",
    ]


def test_a_figure_that_was_not_stored_is_drawn(report: Report, stored: dict[str, str]) -> None:
    few = {name: svg for name, svg in stored.items() if name != "training"}
    assert "Training curves" in titles(render(a_report(record=report.record, figures=few)))


@pytest.mark.slow
def test_figures_of_what_has_no_data_any_more_are_left_out(report: Report, stored: dict[str, str]) -> None:
    page = render(a_report(record=report.record, ranges=pd.DataFrame(), figures=stored))
    assert "Splits of history" not in titles(page)
