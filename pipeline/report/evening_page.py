"""The nightly report as one self-contained HTML page."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Protocol

import pandas as pd
from markupsafe import Markup

from pipeline.evaluation import rolling
from pipeline.evaluation.network_insight import Insight
from pipeline.evaluation.rolling import ROLLING
from pipeline.evaluation.verdict import Verdict
from pipeline.outputs import Output, describe_output, list_outputs, name_key, select_main, select_output
from pipeline.report import facts, insight_tables, output_tables, tables
from pipeline.report.charts import evaluation
from pipeline.report.charts import insight as insight_charts
from pipeline.report.coverage_tables import Curve, collect_curves
from pipeline.report.evening_report import Report
from pipeline.report.html import render_page
from pipeline.schema import is_void
from pipeline.statistics.metrics import reliability

__all__ = ["Evaluated", "evaluation_figures", "render"]

_BINS: Final = 10
_ROUNDING: Final = 1e-9
_MOST: Final = 50  # rows that the page lists of a long table


class Evaluated(Protocol):
    """The evaluation of a trained model: the part that a `Report` and a stored training have in common."""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the first output; None where nothing was scored."""
        ...

    @property
    def scores(self) -> pd.DataFrame:
        """Columns of schema.SCORES."""
        ...

    @property
    def test_rows(self) -> pd.DataFrame:
        """model, symbol, as_of, target_session, horizon, target, p_up, direction, outcome."""
        ...

    @property
    def further(self) -> Mapping[Output, Verdict]:
        """The verdicts on the further outputs."""
        ...

    @property
    def epochs(self) -> pd.DataFrame:
        """fit, member, epoch, loss, stop_loss."""
        ...

    @property
    def ranges(self) -> pd.DataFrame:
        """fit, part, first_session, last_session."""
        ...

    @property
    def insight(self) -> Insight | None:
        """Diagnostics of the network of the scoring fit; None where they were not kept."""
        ...


def render(report: Report) -> str:
    """Return the HTML page; equal reports give equal bytes."""
    record, rolled = report.record, rolling.select_record(report.record, report.outputs[0])
    settled, curves = record[record["outcome"].notna()], _curves(report)
    newest = settled.sort_values(["target_session", "symbol"], ascending=[False, True]).head(_MOST)
    return render_page(
        "report.html",
        r=report,
        facts=facts.collect_key_facts(report),
        **_list_forecasts(report),
        further=output_tables.verdict_cells(report.further),
        **output_tables.describe_further(report.forecasts),
        has_further=len(list_outputs(record)) > 1,
        direction_counts=tables.count_directions(report.forecasts),
        curves=curves,
        achieved=curves[0].achieved if curves else None,
        model_name=tables.name_model(report),
        is_constant=_is_constant(report),
        own_scores=tables.group_scores(tables.select_own_scores(report)),
        all_scores=tables.collect_scores(report).to_dict("records"),
        open_rows=int(record["settled_at"].isna().sum()),
        settled_rows=len(settled),
        void_rows=int(is_void(record).sum()),
        void=tables.describe_void(record),
        rolled_kind="late" if (rolled["kind"] == "late").all() else "live",
        rolled_sessions=rolled["target_session"].nunique(),
        newest=newest.to_dict("records"),
        corrections=report.corrections.sort_values("settled_at").tail(_MOST).to_dict("records"),
        most=_MOST,
        most_dots=evaluation.MOST_DOTS,
        rolling=ROLLING,
        embargo=_farthest_horizon(report),
        insight=insight_tables.collect_insight(report.insight),
        moves=insight_tables.collect_moves(
            report.attributions, output_tables.sort_by_distance(select_main(report.forecasts)), _MOST
        ),
        figures={name: Markup(svg) for name, svg in _figures(report, curves)},
    )


def _list_forecasts(report: Report) -> dict[str, Any]:
    """Return the tables of the forecasts, and beside those of a large universe the packed list of all."""
    forecasts, columns = report.forecasts, output_tables.list_output_columns(report.forecasts)
    is_large, packed = output_tables.is_large(forecasts), Markup()
    if is_large:
        packed = output_tables.encode_list(output_tables.pack_forecasts(forecasts, report.last_call))
    return {
        "forecast_tables": output_tables.list_forecast_tables(forecasts),
        "symbol_rows": [] if is_large else output_tables.pivot_by_symbol(forecasts),
        "symbols": forecasts["symbol"].nunique(),
        "packed": packed,
        "names": [f"{column.name}, {column.target_session:%Y-%m-%d}" for column in columns],
        "ends": output_tables.ENDS,
        "whole": output_tables.WHOLE,
        "counted": output_tables.count_forecasts(forecasts),
        "output_columns": columns,
        **output_tables.LIST,
    }


def _farthest_horizon(report: Report) -> int:
    """Return the farthest horizon that the model was trained on: the embargo between its splits, in sessions."""
    known = report.test_rows if len(report.test_rows) else report.forecasts
    return int(known["horizon"].max())


_CHANGED_BY_RECORD: Final = ("rolling", "rolling_record")
"""Figures of an evaluation that change with the record, at least in their axis."""


def _figures(report: Report, curves: list[Curve]) -> Iterator[tuple[str, str]]:
    """Yield the figures that have data, as (name, SVG): stored ones as they are, which spares drawing them again."""
    yield "forecasts", evaluation.draw_forecasts(select_main(report.forecasts))
    for name, draw in _list_figures(report, report.record, curves):
        stored = "" if name in _CHANGED_BY_RECORD else report.figures.get(name, "")
        yield name, stored or draw()


def evaluation_figures(found: Evaluated, record: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Draw the figures of an evaluation that have data, and yield them as (name, SVG).

    Args:
        found: The evaluation of a trained model.
        record: The ledger's rows, for the rolling hit rate.
    """
    for name, draw in _list_figures(found, record, _curves(found)):
        yield name, draw()


_Draw = Callable[[], str]


def _list_figures(found: Evaluated, record: pd.DataFrame, curves: list[Curve]) -> Iterator[tuple[str, _Draw]]:
    """Yield the figures of an evaluation that have data, as (name, function that draws it)."""
    if found.verdict:
        yield from _score_figures(found, found.verdict, record)
    yield from ((curve.key, curve.draw) for curve in curves)
    scored = found.epochs[found.epochs["fit"] == "score"]
    if len(scored):
        yield "training", partial(evaluation.draw_training, scored)
    if len(found.ranges):
        yield "ranges", partial(evaluation.draw_ranges, found.ranges)
    if found.insight:
        yield from _insight_figures(found.insight)


def _insight_figures(insight: Insight) -> Iterator[tuple[str, _Draw]]:
    importance = insight.importance
    nearest = select_output(importance, list_outputs(importance)[0])
    if (insight.sensitivity["norm"] > 0).any():
        yield "sensitivity", partial(insight_charts.draw_sensitivity, insight)
    yield "importance", partial(insight_charts.draw_importance, nearest)


def _score_figures(report: Evaluated, verdict: Verdict, record: pd.DataFrame) -> Iterator[tuple[str, _Draw]]:
    if math.isfinite(verdict.low) and math.isfinite(verdict.high):
        yield (
            "difference",
            partial(evaluation.draw_difference, verdict.difference, verdict.low, verdict.high),
        )
    scores = select_main(report.scores)
    losses = scores[(scores["metric"] == "log_loss") & (scores["group"] == "all")]
    if len(losses):
        yield (
            "methods",
            partial(evaluation.draw_methods, losses, model=verdict.model, baseline=verdict.baseline),
        )
    every = report.test_rows[report.test_rows["outcome"].notna()]
    own = every[every["model"] == verdict.model]
    for place, output in enumerate(list_outputs(own)):
        name = f"reliability_{name_key(output)}" if place else "reliability"
        about = describe_output(output) if place else ""
        yield name, partial(_draw_reliability, select_output(own, output), about)
    labelled = select_main(every)
    own = labelled[labelled["model"] == verdict.model]
    yield from _rolling_figures(
        rolling.roll_hit_rate(own, labelled[labelled["model"] == verdict.baseline]),
        verdict.baseline,
        _roll_record(record, list_outputs(every)[0]),
    )


def _curves(found: Evaluated) -> list[Curve]:
    return collect_curves(
        found.test_rows,
        found.scores,
        {list_outputs(found.test_rows)[0]: found.verdict, **found.further} if found.verdict else {},
    )


def _rolling_figures(
    backtest: pd.DataFrame, baseline: str, record: pd.DataFrame
) -> Iterator[tuple[str, _Draw]]:
    tables = [
        ("rolling", backtest, "backtest", baseline),
        ("rolling_record", record, "record", "base_rate"),
    ]
    for key, rows, name, compared in tables:
        if len(rows):
            limits = evaluation.hit_rate_limits(backtest, record)
            yield key, partial(evaluation.draw_rolling, rows, name, compared, limits)


def _draw_reliability(rows: pd.DataFrame, about: str = "") -> str:
    table = reliability(
        rows["p_up"].to_numpy(), rows["outcome"].to_numpy(), _BINS, session=rows["target_session"].to_numpy()
    )
    return evaluation.draw_reliability(table, about)


def _roll_record(record: pd.DataFrame, output: Output) -> pd.DataFrame:
    rows = rolling.select_record(record, output)
    return rolling.roll_hit_rate(rows, rows.assign(p_up=rows["baseline_p_up"]))


def _is_constant(report: Report) -> bool:
    """Return whether the scored network gave the same probability to all test rows of the first output."""
    rows = select_main(report.test_rows)
    own = rows.loc[rows["model"] == (report.verdict.model if report.verdict else ""), "p_up"]
    return len(own) > 1 and float(own.max() - own.min()) < _ROUNDING
