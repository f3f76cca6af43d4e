"""Forecasts and verdicts of several horizons, as rows of short texts."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.evaluation.horizons import describe_horizon, describe_horizons, list_horizons
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import count, format_p_value, format_percent, format_price

__all__ = [
    "HorizonColumn",
    "SymbolRow",
    "count_forecasts",
    "forecast_cells",
    "list_horizon_columns",
    "pivot_by_symbol",
    "sort_by_distance",
    "verdict_cells",
]


@dataclass(frozen=True)
class HorizonColumn:
    """One horizon of an evening.

    Attributes:
        horizon: Sessions ahead.
        name: In words.
        target_session: Where it leads.
    """

    horizon: int
    name: str
    target_session: pd.Timestamp


@dataclass(frozen=True, eq=False)
class SymbolRow:
    """One symbol's forecasts of an evening.

    Attributes:
        symbol: Whose.
        last_close: The close they stand on.
        kind: live or late.
        ahead: The row of schema.FORECASTS of each horizon that it has.
    """

    symbol: str
    last_close: float
    kind: str
    ahead: Mapping[int, Mapping[Hashable, Any]]


def count_forecasts(forecasts: pd.DataFrame) -> str:
    """Say how many forecasts there are, and of several horizons how far they look."""
    number, horizons = count(len(forecasts), "forecast"), list_horizons(forecasts)
    return number if len(horizons) < 2 else f"{number}, {describe_horizons(horizons)},"


def list_horizon_columns(forecasts: pd.DataFrame) -> list[HorizonColumn]:
    """Return the horizons of an evening's forecasts (FORECASTS columns), the nearest first."""
    targets = forecasts.groupby("horizon")["target_session"].min()
    return [HorizonColumn(h, describe_horizon(h), targets[h]) for h in list_horizons(forecasts)]


def sort_by_distance(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts, the nearest horizon first, in it the farthest from the base rate."""
    distance = (forecasts["p_up"] - forecasts["baseline_p_up"]).abs()
    return forecasts.assign(_distance=distance).sort_values(
        ["horizon", "_distance", "symbol"], ascending=[True, False, True]
    )


def pivot_by_symbol(forecasts: pd.DataFrame) -> list[SymbolRow]:
    """Return one line a symbol, the farthest from the next session's base rate first."""
    rows = sort_by_distance(forecasts)
    return [
        SymbolRow(
            str(symbol),
            float(own["last_close"].iloc[0]),
            "live" if (own["kind"] == "live").all() else "late",
            {int(row["horizon"]): row for row in own.to_dict("records")},
        )
        for symbol, own in rows.groupby("symbol", sort=False)
    ]


def forecast_cells(forecasts: pd.DataFrame) -> list[dict[str, str]]:
    """Return the lines as short texts: direction, P(up) and in brackets the base rate, a column a horizon."""
    ahead = list_horizon_columns(forecasts)
    return [
        {"symbol": line.symbol}
        | {each.name: _cell(line.ahead.get(each.horizon)) for each in ahead}
        | {"last close": format_price(line.last_close), "kind": line.kind}
        for line in pivot_by_symbol(forecasts)
    ]


def _cell(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return "–"
    return f"{row['direction']} {format_percent(row['p_up'])} ({format_percent(row['baseline_p_up'])})"


def verdict_cells(further: Mapping[int, Verdict]) -> list[dict[str, str]]:
    """Return the verdicts on the farther horizons as rows of short texts."""
    return [
        {
            "ahead": describe_horizon(horizon),
            "verdict": verdict.conclusion,
            "log loss saved": _number(verdict.difference),
            "95% interval": f"{_number(verdict.low)} to {_number(verdict.high)}"
            if verdict.low <= verdict.high
            else "–",
            "best baseline": verdict.baseline,
            "p": format_p_value(verdict.p_value),
            "n": f"{verdict.n:,}",
            "sessions": f"{verdict.sessions:,}",
        }
        for horizon, verdict in further.items()
    ]


def _number(value: float) -> str:
    return f"{value:+z.4f}" if value == value else "–"
