"""Tonight's forecasts as compact rows, which the index's script searches, sorts and pages."""

from typing import Any, Final

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from pipeline.formatting import format_interval, format_percent, format_price
from pipeline.outputs import list_outputs, select_output
from pipeline.report.output_tables import sort_by_distance
from pipeline.report.site.addresses import name_page
from pipeline.report.site.inputs import SiteInputs
from pipeline.schema import DIRECTIONS

__all__ = ["PAGE", "encode_rows", "list_rows", "tell_kind"]

PAGE: Final = 50
"""Rows on one page of the table."""

_UNIT: Final = 1e5
"""Probabilities are written in so many parts: a tenth of the last digit shown."""


def tell_kind(inputs: SiteInputs) -> str:
    """Return which rows the table's record is of: the live ones, or the late ones while none is settled live."""
    record = inputs.report.record
    return "live" if (record["outcome"].notna() & (record["kind"] == "live")).any() else "late"


def list_rows(inputs: SiteInputs, scores: pd.DataFrame) -> list[list[Any]]:
    """Return a row per symbol forecast tonight, the farthest from its base rate first.

    symbol, file of its page (empty where that is the symbol in small letters), last close, last call, hit rate, its
    interval and n (of the first output's rows of `tell_kind`; empty without one), then for each output the place of its
    direction, p_up in parts of _UNIT, and low, high and base rate less p_up; 0 where there is none.

    Args:
        inputs: What the site is made of.
        scores: Of `record.score_symbols`.
    """
    report = inputs.report
    outputs = list_outputs(report.forecasts)
    by_output = [_by_symbol(inputs, select_output(report.forecasts, each)) for each in outputs]
    hits = _hit_rates(select_output(scores, outputs[0]), tell_kind(inputs))
    ordered = dict.fromkeys(inputs.current.get(s, s) for s in sort_by_distance(report.forecasts)["symbol"])
    rows, calls = [], report.last_call
    for symbol in ordered:
        forecasts = [each.get(symbol) for each in by_output]
        close = next(row["last_close"] for row in forecasts if row is not None)
        cells = [0 if row is None else _pack(row) for row in forecasts]
        call = calls.get(symbol, "")
        file = name_page(symbol)
        shown = "" if file == f"{symbol.lower()}.html" else file
        rows.append([symbol, shown, format_price(close), call, *hits.get(symbol, ("", "", 0)), *cells])
    return rows


def encode_rows(rows: list[list[Any]]) -> Markup:
    """Return the rows as JSON that no name in them can end: <, > and & are escaped."""
    return htmlsafe_json_dumps(rows, separators=(",", ":"), ensure_ascii=False)


def _by_symbol(inputs: SiteInputs, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        inputs.current.get(row["symbol"], row["symbol"]): {str(name): cell for name, cell in row.items()}
        for row in rows.to_dict("records")
    }


def _pack(row: dict[str, Any]) -> list[int]:
    p, low, high, base = (round(row[name] * _UNIT) for name in ("p_up", "low", "high", "baseline_p_up"))
    return [DIRECTIONS.index(row["direction"]), p, low - p, high - p, base - p]


def _hit_rates(scores: pd.DataFrame, kind: str) -> dict[str, tuple[str, str, int]]:
    """Return the hit rate of each symbol, its interval and n, as they are shown."""
    own = scores[(scores["metric"] == "hit_rate") & (scores["kind"] == kind)]
    return {
        str(row["group"]): (
            format_percent(row["value"]),
            format_interval(row["low"], row["high"], "hit_rate", row["sessions"], row["horizon"]).replace(
                "% to ", "–"
            ),
            int(row["n"]),
        )
        for row in own.to_dict("records")
    }
