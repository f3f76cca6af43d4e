"""Tables of forecasts, of one output or several, and of verdicts; and the compact list of a large universe."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

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
    select_main,
    select_output,
)
from pipeline.schema import DIRECTIONS

__all__ = [
    "ENDS",
    "LIST",
    "WHOLE",
    "ForecastTable",
    "OutputColumn",
    "SymbolRow",
    "count_forecasts",
    "describe_further",
    "encode_list",
    "forecast_cells",
    "format_base_rate",
    "is_large",
    "list_forecast_tables",
    "list_further_sentences",
    "list_output_columns",
    "pack_forecasts",
    "pivot_by_symbol",
    "sort_by_distance",
    "verdict_cells",
    "write_number",
]

WHOLE: Final = 600
"""Symbols up to which the report lists every forecast; of more it lists both ends, and packs the whole list."""

ENDS: Final = 25
"""Forecasts at each end."""

_PAGE: Final = 50
"""Rows on one page of a packed list."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""The digits of a packed list's numbers, for 0 to 63."""

_CALLS: Final = ("", "right", "wrong")
"""Whether a symbol's last call was right."""

LIST: Final = {"page": _PAGE, "digits": _DIGITS, "calls": _CALLS, "directions": DIRECTIONS}
"""What the script of a packed list has to know."""

_UNIT: Final = 1e5
"""Probabilities are packed in so many parts: a tenth of the last digit shown."""


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


@dataclass(frozen=True, eq=False)
class ForecastTable:
    """A table of forecasts on the page.

    Attributes:
        title: What it holds; empty where it holds every forecast.
        rows: The rows of the first output, of `sort_by_distance`.
    """

    title: str
    rows: list[dict[Hashable, Any]]


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
    outputs = map(Output, forecasts["target"], forecasts["horizon"])
    places = [order[output] for output in outputs]
    return (
        forecasts.assign(_output=places, _distance=distance, is_within_band=is_within_band(forecasts))
        .sort_values(["_output", "_distance", "symbol"], ascending=[True, False, True])
        .drop(columns=["_output", "_distance"])
    )


def _output_of(row: Mapping[Hashable, Any]) -> Output:
    return Output(str(row["target"]), int(row["horizon"]))


def pivot_by_symbol(forecasts: pd.DataFrame) -> list[SymbolRow]:
    """Return one row per symbol, the farthest from the first output's base rate first."""
    found = dict[str, dict[Output, Mapping[Hashable, Any]]]()
    for row in sort_by_distance(forecasts).to_dict("records"):
        found.setdefault(str(row["symbol"]), {})[_output_of(row)] = row
    return [
        SymbolRow(
            symbol,
            float(next(iter(own.values()))["last_close"]),
            "live" if all(row["kind"] == "live" for row in own.values()) else "late",
            own,
        )
        for symbol, own in found.items()
    ]


def is_large(forecasts: pd.DataFrame) -> bool:
    """Whether there are more symbols than a page, or a table of Prefect's, lists."""
    return int(forecasts["symbol"].nunique()) > WHOLE


def list_forecast_tables(forecasts: pd.DataFrame) -> list[ForecastTable]:
    """Return the forecasts of the first output in one table; of a large universe the highest and the lowest ENDS.

    High and low are compared with the base rates; the farthest come first in each table.
    """
    rows = sort_by_distance(select_main(forecasts))
    if not is_large(forecasts):
        return [ForecastTable("", rows.to_dict("records"))]
    place = (rows["p_up"] - rows["baseline_p_up"]).to_numpy().argsort(kind="stable")
    return [
        ForecastTable(f"The {ENDS} highest", rows.iloc[place[::-1][:ENDS]].to_dict("records")),
        ForecastTable(f"The {ENDS} lowest", rows.iloc[place[:ENDS]].to_dict("records")),
    ]


def pack_forecasts(forecasts: pd.DataFrame, calls: Mapping[str, str]) -> dict[str, Any]:
    """Return a list of the forecasts, the farthest from its base rate first, for the script of templates/list.html.

    Numbers are in columns of text, each row in as many digits of 64: 2,000 symbols with six outputs take 200 kB,
    where lists of numbers take twice as much.

    Args:
        forecasts: FORECASTS columns.
        calls: Whether the last call of a symbol was right: right, wrong or empty.

    Returns:
        symbols, closes: Texts, [symbol].
        calls: 0 unknown, 1 right, 2 wrong, one digit a symbol.
        outputs: For each output 11 digits a symbol: 0 where there is no forecast, else 1 and the place of its
            direction, and 8 more where the base rate lies inside the band; p_up in parts of 100,000 (three digits); low
            and high in thousandths (two each); the base rate in parts of 100,000 (three).
    """
    by_output = [
        {str(row["symbol"]): row for row in select_output(forecasts, each).to_dict("records")}
        for each in list_outputs(forecasts)
    ]
    symbols = [str(symbol) for symbol in sort_by_distance(forecasts)["symbol"].drop_duplicates()]
    closes = [next(rows[symbol]["last_close"] for rows in by_output if symbol in rows) for symbol in symbols]
    return {
        "symbols": symbols,
        "closes": [format_price(close) for close in closes],
        "calls": "".join(write_number(_CALLS.index(calls.get(each, "")), 1) for each in symbols),
        "outputs": ["".join(_pack(rows.get(symbol)) for symbol in symbols) for rows in by_output],
    }


def _pack(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return write_number(0, 11)
    low, high, base = row["low"], row["high"], row["baseline_p_up"]
    mark = 1 + DIRECTIONS.index(row["direction"]) + (8 if low <= base <= high else 0)
    p, base = (round(each * _UNIT) for each in (row["p_up"], base))
    numbers = ((mark, 1), (p, 3), (round(1000 * low), 2), (round(1000 * high), 2), (base, 3))
    return "".join(write_number(number, width) for number, width in numbers)


def write_number(number: int, width: int) -> str:
    """Return a number of [0, 64 ** width) in so many digits of 64, the highest first."""
    return "".join(_DIGITS[number >> 6 * place & 63] for place in reversed(range(width)))


def encode_list(packed: Mapping[str, Any]) -> Markup:
    """Return a packed list as JSON that no name in it can end: <, > and & are escaped."""
    return htmlsafe_json_dumps(packed, separators=(",", ":"), ensure_ascii=False)


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
