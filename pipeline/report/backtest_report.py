"""The result of a walk-forward backtest, and its tables as CSV."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import pandas as pd

from pipeline.evaluation.network_insight import Insight
from pipeline.evaluation.robustness import RobustnessTests
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import format_instant
from pipeline.outputs import Output, list_outputs
from pipeline.report.trading_tables import list_numbers
from pipeline.schema import FORECASTS, GROUP_SCORES, SCORES
from pipeline.storage.csv_output import format_csv, write_plain_csv
from pipeline.trading.view import TradingView

__all__ = [
    "FORECAST_COLUMNS",
    "Backtest",
    "backtest_paths",
    "groups_csv",
    "list_all_numbers",
    "scores_csv",
    "write_forecasts",
]

FORECAST_COLUMNS: Final = [*FORECASTS.columns, "outcome", "realized_return", "fold"]
"""The columns of a backtest's forecasts.csv, which ends with p_low and p_high: low and high are their former names."""

_FILES: Final = ("forecasts.csv", "scores.csv", "groups.csv", "trading.csv", "report.html")


@dataclass(frozen=True, eq=False)
class Backtest:
    """Everything that the report of a backtest shows.

    Attributes:
        universe: Its name.
        calendar: The exchange.
        as_of: The last session of the prices.
        made_at: When it was made (UTC).
        forecasts: FORECAST_COLUMNS, the rows of the network.
        test_rows: fold, model, symbol, as_of, target_session, horizon, target, p_up, direction, outcome: rows of every
            method.
        scores: schema.SCORES.
        verdict: The verdict on the first output.
        further: The verdicts on the further outputs.
        ranges: The splits of history: fit, part, first_session, last_session, sessions, rows.
        epochs: fit, member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        groups: schema.GROUP_SCORES of the first output.
        tests: Robustness tests that complement the verdict.
        trading: What the forecasts of the first output would have earned.
        further_trading: What those of further outputs would have earned, by output: of all that orders at the next open
            can reach.
        method: Description of what was tested, by name.
        tried: A sentence on how many settings had been tried on the universe by then.
        unaudited: A warning where the user's custom code was used and no audit of it exists; else empty.
        bias: The survivorship bias, where membership is today's list and not that of each session; else empty.
        notes: Remarks, one sentence each.
        insight: Diagnostics of the network; None, as they are not computed in a walk of many fits.
    """

    universe: str
    calendar: str
    as_of: pd.Timestamp
    made_at: datetime
    forecasts: pd.DataFrame
    test_rows: pd.DataFrame
    scores: pd.DataFrame
    verdict: Verdict
    further: Mapping[Output, Verdict]
    ranges: pd.DataFrame
    epochs: pd.DataFrame
    groups: pd.DataFrame
    tests: RobustnessTests
    trading: TradingView
    method: Mapping[str, str]
    tried: str = ""
    unaudited: str = ""
    bias: str = ""
    notes: list[str] = field(default_factory=list)
    further_trading: Mapping[Output, TradingView] = field(default_factory=dict)
    insight: Insight | None = None

    @property
    def model(self) -> str:
        """The name of the network in the scores."""
        return self.verdict.model

    @property
    def folds(self) -> int:
        """The number of fits."""
        return int(self.ranges["fit"].nunique())


def backtest_paths(folder: Path) -> dict[str, Path]:
    """Return the paths of a backtest's files in its folder, by file name."""
    return {name: folder / name for name in _FILES}


def write_forecasts(file: BinaryIO, backtest: Backtest) -> None:
    """Write forecasts.csv: one row per forecast of the network, by session, symbol and output."""
    issued_at = format_instant(backtest.made_at)
    folds = (rows for _, rows in backtest.forecasts.groupby("fold"))
    write_plain_csv(
        file,
        [*FORECAST_COLUMNS, "p_low", "p_high"],
        (
            rows.assign(**_format_days(rows), issued_at=issued_at, p_low=rows["low"], p_high=rows["high"])
            for rows in folds
        ),
    )


def _format_days(rows: pd.DataFrame) -> dict[str, pd.Series]:
    return {name: rows[name].dt.strftime("%Y-%m-%d") for name in ("as_of", "target_session")}


def scores_csv(backtest: Backtest) -> str:
    """Return the text of scores.csv: every score of every method."""
    return format_csv(backtest.scores[list(SCORES.columns)])


def list_all_numbers(backtest: Backtest) -> pd.DataFrame:
    """Return the rows of trading.csv: every number of the trading views, with target and horizon at the end."""
    views = {list_outputs(backtest.test_rows)[0]: backtest.trading, **backtest.further_trading}
    tables = [list_numbers(view).assign(**output._asdict()) for output, view in views.items()]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def groups_csv(backtest: Backtest) -> str:
    """Return the text of groups.csv: the network's scores by symbol, year, volatility, weekday and confidence."""
    return format_csv(backtest.groups[list(GROUP_SCORES.columns)])
