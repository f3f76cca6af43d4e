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

__all__ = ["CALLS", "DIGITS", "PAGE", "encode_table", "list_table", "tell_kind", "write_number"]

PAGE: Final = 50
"""Rows on one page of the table."""

DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""The digits of the table's numbers, for 0 to 63."""

CALLS: Final = ("", "right", "wrong")
"""Whether a symbol's last call was right."""

_UNIT: Final = 1e5
"""Probabilities are written in so many parts: a tenth of the last digit shown."""


def tell_kind(inputs: SiteInputs) -> str:
    """Return which rows the table's record is of: the live ones, or the late ones while none is settled live."""
    record = inputs.report.record
    return "live" if (record["outcome"].notna() & (record["kind"] == "live")).any() else "late"


def list_table(inputs: SiteInputs, scores: pd.DataFrame) -> dict[str, Any]:
    """Return the table of the symbols forecast tonight, the farthest from its base rate first.

    Numbers are in columns of text, each row in as many digits of DIGITS: 2,000 symbols with six outputs take 200 kB,
    where lists of numbers take twice as much.

    Args:
        inputs: What the site is made of.
        scores: Of `record.score_symbols`.

    Returns:
        symbols, closes: Texts, [symbol].
        files: The file of its page by the place of a symbol, where that is not the symbol in small letters.
        calls: A place in CALLS, one digit a symbol.
        records: Every different hit rate, its interval and n, as they are shown, of the first output's rows of
            `tell_kind`; the first is of a symbol without a settled row.
        record: A place in records, three digits a symbol.
        outputs: For each output 11 digits a symbol: 0 where there is no forecast, else 1 and the place of its
            direction, and 8 more where the base rate lies inside the band; p_up in parts of 100,000 (three digits); low
            and high in thousandths (two each); the base rate in parts of 100,000 (three).
    """
    report = inputs.report
    outputs = list_outputs(report.forecasts)
    by_output = [_by_symbol(inputs, select_output(report.forecasts, each)) for each in outputs]
    hits = _hit_rates(select_output(scores, outputs[0]), tell_kind(inputs))
    symbols = [*dict.fromkeys(inputs.current.get(s, s) for s in sort_by_distance(report.forecasts)["symbol"])]
    files = {symbol: name_page(symbol) for symbol in symbols}
    unknown = ("", "", 0)
    records = dict.fromkeys([unknown, *(hits.get(symbol, unknown) for symbol in symbols)])
    places = {record: place for place, record in enumerate(records)}
    closes = [next(rows[symbol]["last_close"] for rows in by_output if symbol in rows) for symbol in symbols]
    return {
        "symbols": symbols,
        "files": {
            at: file for at, (symbol, file) in enumerate(files.items()) if file != f"{symbol.lower()}.html"
        },
        "closes": [format_price(close) for close in closes],
        "calls": "".join(write_number(CALLS.index(report.last_call.get(each, "")), 1) for each in symbols),
        "records": [*records],
        "record": "".join(write_number(places[hits.get(symbol, unknown)], 3) for symbol in symbols),
        "outputs": ["".join(_pack(rows.get(symbol)) for symbol in symbols) for rows in by_output],
    }


def encode_table(table: dict[str, Any]) -> Markup:
    """Return the table as JSON that no name in it can end: <, > and & are escaped."""
    return htmlsafe_json_dumps(table, separators=(",", ":"), ensure_ascii=False)


def write_number(number: int, width: int) -> str:
    """Return a number of [0, 64 ** width) in so many digits of DIGITS, the highest first."""
    return "".join(DIGITS[number >> 6 * place & 63] for place in reversed(range(width)))


def _by_symbol(inputs: SiteInputs, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        inputs.current.get(row["symbol"], row["symbol"]): {str(name): cell for name, cell in row.items()}
        for row in rows.to_dict("records")
    }


def _pack(row: dict[str, Any] | None) -> str:
    if row is None:
        return write_number(0, 11)
    low, high, base = row["low"], row["high"], row["baseline_p_up"]
    mark = 1 + DIRECTIONS.index(row["direction"]) + (8 if low <= base <= high else 0)
    p, base = (round(each * _UNIT) for each in (row["p_up"], base))
    numbers = ((mark, 1), (p, 3), (round(1000 * low), 2), (round(1000 * high), 2), (base, 3))
    return "".join(write_number(number, width) for number, width in numbers)


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
