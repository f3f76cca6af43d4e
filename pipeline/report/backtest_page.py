"""The report of a backtest as one self-contained HTML page."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.evaluation import rolling
from pipeline.evaluation.aligned import gather_labelled
from pipeline.evaluation.data_snooping import session_losses
from pipeline.outputs import describe_output, select_main
from pipeline.report.backtest_report import Backtest
from pipeline.report.charts import evaluation
from pipeline.report.charts.equity import draw_equity
from pipeline.report.evening_page import evaluation_figures
from pipeline.report.html import render_page
from pipeline.report.output_tables import describe_further, verdict_cells
from pipeline.report.tables import group_scores
from pipeline.report.trading_tables import describe_deflated_sharpe, trading_cells
from pipeline.statistics.reliability import decompose_brier, trace_reliability

__all__ = ["render_backtest"]


def render_backtest(backtest: Backtest) -> str:
    """Return the HTML page; equal backtests give equal bytes."""
    own = backtest.scores[backtest.scores["model"] == backtest.model]
    rows = select_main(backtest.forecasts)
    return render_page(
        "backtest.html",
        b=backtest,
        first=rows["target_session"].min(),
        last=rows["target_session"].max(),
        further=verdict_cells(backtest.further),
        **describe_further(backtest.scores),
        own_scores=group_scores(own),
        all_scores=backtest.scores.to_dict("records"),
        families=_families(backtest),
        rolling=rolling.ROLLING,
        trading=trading_cells(backtest.trading),
        further_trading=[
            (describe_output(output), output.is_relative, view, trading_cells(view))
            for output, view in backtest.further_trading.items()
        ],
        deflated_sharpe=describe_deflated_sharpe(backtest.trading.deflated),
        figures={name: Markup(svg) for name, svg in _figures(backtest)},
    )


_EVERY_GROUP = 30
"""How many groups of a family the page lists; the rest (of the symbols, as a rule) is in groups.csv."""


def _families(backtest: Backtest) -> list[dict[str, Any]]:
    """Return each family of groups: its name, the number of groups tested, and the scores of its groups by metric."""
    return [
        {
            "name": family,
            "tested": int(losses["groups"].max()),
            "found": int((losses["adjusted_p"] < 0.05).sum()),
            "left_out": max(rows["group"].nunique() - _EVERY_GROUP, 0),
            "groups": [
                {row["metric"]: row for row in part.to_dict("records")}
                for _, part in list(rows.groupby("group", sort=False))[:_EVERY_GROUP]
            ],
        }
        for family, rows in backtest.groups.groupby("family", sort=False)
        for losses in [rows[rows["metric"] == "log_loss"]]
    ]


def _figures(backtest: Backtest) -> Iterator[tuple[str, str]]:
    yield from evaluation_figures(backtest, backtest.forecasts.iloc[:0])
    saved = _loss_saved(backtest)
    if len(saved):
        starts = backtest.ranges.loc[backtest.ranges["part"] == "test", "first_session"]
        yield "cumulative", evaluation.draw_cumulative(saved, list(starts))
    table = gather_labelled(_network_rows(backtest))
    p, y = table.p[backtest.model], table.y
    if table.sessions:
        curve = trace_reliability(p, y, table.session)
        yield "recalibration", evaluation.draw_recalibration(curve, decompose_brier(p, y))
    if equity := draw_equity(backtest.trading):
        yield "equity", equity


def _network_rows(backtest: Backtest) -> pd.DataFrame:
    rows = select_main(backtest.test_rows)
    return rows[rows["model"] == backtest.model]


def _loss_saved(backtest: Backtest) -> pd.DataFrame:
    """Return the log loss saved by the network per session, compared with the verdict's baseline and the base rate."""
    rows, rules = select_main(backtest.test_rows), dict.fromkeys([backtest.verdict.baseline, "base_rate"])
    mean = session_losses(rows, [backtest.model, *rules])
    return pd.DataFrame({rule: mean[rule] - mean[backtest.model] for rule in rules})
