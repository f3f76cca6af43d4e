"""Tables of forecasts and verdicts with several outputs."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.evaluation.selective import is_within_band
from pipeline.evaluation.timing_and_picking import LOOKS
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import count, format_alike, format_p_value, format_percent, format_price
from pipeline.outputs import (
    DIRECTION,
    MAIN,
    NEXT,
    Output,
    describe_output,
    describe_outputs,
    explain_outputs,
    list_outputs,
    select_output,
)

__all__ = [
    "OutputColumn",
    "SymbolRow",
    "count_forecasts",
    "describe_further",
    "forecast_cells",
    "format_base_rate",
    "list_further_sentences",
    "list_output_columns",
    "pivot_by_symbol",
    "sort_by_distance",
    "verdict_cells",
]


@dataclass(frozen=True)
class OutputColumn:
    """A column of the forecast table: one output.

    Attributes:
        output: What it forecasts.
        name: The output in words.
        target_session: The session that it forecasts.
    """

    output: Output
    name: str
    target_session: pd.Timestamp


@dataclass(frozen=True, eq=False)
class SymbolRow:
    """A row of the forecast table: one symbol's forecasts of every output.

    Attributes:
        symbol: The symbol.
        last_close: The close from which the forecasts are made.
        kind: live if all of them are live, else late.
        by_output: Rows of schema.FORECASTS by output; outputs without a forecast are missing.
    """

    symbol: str
    last_close: float
    kind: str
    by_output: Mapping[Output, Mapping[Hashable, Any]]


def count_forecasts(forecasts: pd.DataFrame) -> str:
    """Return the number of forecasts as a phrase, with the outputs where there is more than the usual one."""
    number, outputs = count(len(forecasts), "forecast"), list_outputs(forecasts)
    return number if outputs in ([], [MAIN]) else f"{number}, {describe_outputs(outputs)},"


def list_output_columns(forecasts: pd.DataFrame) -> list[OutputColumn]:
    """Return the columns of the forecast table (from FORECASTS columns) in the order of the outputs."""
    return [
        OutputColumn(
            output, describe_output(output), select_output(forecasts, output)["target_session"].min()
        )
        for output in list_outputs(forecasts)
    ]


def sort_by_distance(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts sorted by output, then by distance from the base rate, the largest first.

    A column is added: is_within_band, whether the base rate lies within the band.
    """
    distance = (forecasts["p_up"] - forecasts["baseline_p_up"]).abs()
    order = {output: place for place, output in enumerate(list_outputs(forecasts))}
    places = [order[_output_of(row)] for row in forecasts.to_dict("records")]
    return (
        forecasts.assign(_output=places, _distance=distance, is_within_band=is_within_band(forecasts))
        .sort_values(["_output", "_distance", "symbol"], ascending=[True, False, True])
        .drop(columns=["_output", "_distance"])
    )


def _output_of(row: Mapping[Hashable, Any]) -> Output:
    return Output(str(row["target"]), int(row["horizon"]))


def pivot_by_symbol(forecasts: pd.DataFrame) -> list[SymbolRow]:
    """Return one row per symbol, the farthest from the first output's base rate first."""
    rows = sort_by_distance(forecasts)
    return [
        SymbolRow(
            str(symbol),
            float(own["last_close"].iloc[0]),
            "live" if (own["kind"] == "live").all() else "late",
            {_output_of(row): row for row in own.to_dict("records")},
        )
        for symbol, own in rows.groupby("symbol", sort=False)
    ]


def forecast_cells(forecasts: pd.DataFrame) -> list[dict[str, str]]:
    """Return the table as texts, a column per output: direction, P(up) and in brackets the base rate."""
    columns = list_output_columns(forecasts)
    return [
        {"symbol": row.symbol}
        | {column.name: _format_forecast(row.by_output.get(column.output)) for column in columns}
        | {"last close": format_price(row.last_close), "kind": row.kind}
        for row in pivot_by_symbol(forecasts)
    ]


def _format_forecast(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return "–"
    return f"{row['direction']} {format_percent(row['p_up'])} ({format_base_rate(row)})"


def format_base_rate(row: Mapping[Hashable, Any]) -> str:
    """Format the base rate of a row of `sort_by_distance`; ≈ marks one that lies within the row's band."""
    return f"{'≈ ' if row['is_within_band'] else ''}{format_percent(row['baseline_p_up'])}"


def describe_further(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the page says of several outputs: notes, whether all are directions, and any lies farther ahead."""
    outputs = list_outputs(rows)
    return {
        "output_notes": explain_outputs(outputs),
        "all_directions": all(output.target == DIRECTION for output in outputs),
        "main_name": describe_output(outputs[0] if outputs else MAIN),
        "has_farther": any(output.horizon > NEXT for output in outputs),
    }


def list_further_sentences(verdict: Verdict | None, further: Mapping[Output, Verdict]) -> list[str]:
    """Return what is said below the headline: timing and picking, then the same of every further output."""
    skills = [skill.sentence for skill in verdict.skills] if verdict else []
    looks = [LOOKS] if len(skills) > 1 else []
    recurrence = [verdict.recurrence] if verdict and verdict.recurrence else []
    return [
        *skills,
        *looks,
        *recurrence,
        *(sentence for each in further.values() for sentence in each.sentences),
    ]


def verdict_cells(further: Mapping[Output, Verdict]) -> list[dict[str, str]]:
    """Return the table of the verdicts on the further outputs, as texts."""
    return [
        {
            "ahead": describe_output(output),
            "verdict": verdict.title,
            "skills": ", ".join(f"{skill.name} {skill.conclusion}" for skill in verdict.skills),
            "log loss saved": saved,
            "95% interval": f"{low} to {high}" if verdict.low <= verdict.high else "–",
            "best baseline": verdict.baseline,
            "p": format_p_value(verdict.p_value),
            "n": f"{verdict.n:,}",
            "sessions": f"{verdict.sessions:,}",
        }
        for output, verdict in further.items()
        for saved, low, high in [format_alike(verdict.difference, verdict.low, verdict.high)]
    ]
