"""Tables of forecasts and verdicts with several horizons."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.evaluation.horizons import describe_horizon, describe_horizons, list_horizons
from pipeline.evaluation.timing_and_picking import LOOKS
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import count, format_alike, format_p_value, format_percent, format_price

__all__ = [
    "HorizonColumn",
    "SymbolRow",
    "count_forecasts",
    "forecast_cells",
    "list_further_sentences",
    "list_horizon_columns",
    "pivot_by_symbol",
    "sort_by_distance",
    "verdict_cells",
]


@dataclass(frozen=True)
class HorizonColumn:
    """A column of the forecast table: one horizon.

    Attributes:
        horizon: Sessions ahead.
        name: The horizon in words.
        target_session: The session that it forecasts.
    """

    horizon: int
    name: str
    target_session: pd.Timestamp


@dataclass(frozen=True, eq=False)
class SymbolRow:
    """A row of the forecast table: one symbol's forecasts at every horizon.

    Attributes:
        symbol: The symbol.
        last_close: The close from which the forecasts are made.
        kind: live if all of them are live, else late.
        by_horizon: Rows of schema.FORECASTS by horizon; horizons without a forecast are missing.
    """

    symbol: str
    last_close: float
    kind: str
    by_horizon: Mapping[int, Mapping[Hashable, Any]]


def count_forecasts(forecasts: pd.DataFrame) -> str:
    """Return the number of forecasts as a phrase, with the horizons where there are several."""
    number, horizons = count(len(forecasts), "forecast"), list_horizons(forecasts)
    return number if len(horizons) < 2 else f"{number}, {describe_horizons(horizons)},"


def list_horizon_columns(forecasts: pd.DataFrame) -> list[HorizonColumn]:
    """Return the columns of the forecast table (from FORECASTS columns), the nearest horizon first."""
    targets = forecasts.groupby("horizon")["target_session"].min()
    return [HorizonColumn(h, describe_horizon(h), targets[h]) for h in list_horizons(forecasts)]


def sort_by_distance(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts sorted by horizon, then by distance from the base rate, the largest first."""
    distance = (forecasts["p_up"] - forecasts["baseline_p_up"]).abs()
    return forecasts.assign(_distance=distance).sort_values(
        ["horizon", "_distance", "symbol"], ascending=[True, False, True]
    )


def pivot_by_symbol(forecasts: pd.DataFrame) -> list[SymbolRow]:
    """Return one row per symbol, the farthest from the next session's base rate first."""
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
    """Return the table as texts, a column per horizon: direction, P(up) and in brackets the base rate."""
    columns = list_horizon_columns(forecasts)
    return [
        {"symbol": row.symbol}
        | {column.name: _format_forecast(row.by_horizon.get(column.horizon)) for column in columns}
        | {"last close": format_price(row.last_close), "kind": row.kind}
        for row in pivot_by_symbol(forecasts)
    ]


def _format_forecast(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return "–"
    return f"{row['direction']} {format_percent(row['p_up'])} ({format_percent(row['baseline_p_up'])})"


def list_further_sentences(verdict: Verdict | None, further: Mapping[int, Verdict]) -> list[str]:
    """Return what is said below the headline: timing and picking, then the same of every farther horizon."""
    skills = [skill.sentence for skill in verdict.skills] if verdict else []
    looks = [LOOKS] if skills else []
    return [*skills, *looks, *(sentence for each in further.values() for sentence in each.sentences)]


def verdict_cells(further: Mapping[int, Verdict]) -> list[dict[str, str]]:
    """Return the table of the verdicts on the farther horizons, as texts."""
    return [
        {
            "ahead": describe_horizon(horizon),
            "verdict": verdict.conclusion,
            "skills": ", ".join(f"{skill.name} {skill.conclusion}" for skill in verdict.skills),
            "log loss saved": saved,
            "95% interval": f"{low} to {high}" if verdict.low <= verdict.high else "–",
            "best baseline": verdict.baseline,
            "p": format_p_value(verdict.p_value),
            "n": f"{verdict.n:,}",
            "sessions": f"{verdict.sessions:,}",
        }
        for horizon, verdict in further.items()
        for saved, low, high in [format_alike(verdict.difference, verdict.low, verdict.high)]
    ]
