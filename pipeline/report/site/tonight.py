"""Tonight's forecasts as compact rows, which the index's script searches, sorts and pages."""

from typing import Any

import pandas as pd

from pipeline.formatting import format_interval, format_percent
from pipeline.outputs import list_outputs, select_output
from pipeline.report.output_tables import pack_forecasts, write_number
from pipeline.report.site.addresses import name_page
from pipeline.report.site.inputs import SiteInputs

__all__ = ["list_table", "tell_kind"]


def tell_kind(inputs: SiteInputs) -> str:
    """Return which rows the table's record is of: the live ones, or the late ones while none is settled live."""
    record = inputs.report.record
    return "live" if (record["outcome"].notna() & (record["kind"] == "live")).any() else "late"


def list_table(inputs: SiteInputs, scores: pd.DataFrame) -> dict[str, Any]:
    """Return the table of the symbols forecast tonight, the farthest from its base rate first.

    Args:
        inputs: What the site is made of.
        scores: Of `record.score_symbols`.

    Returns:
        What `pack_forecasts` returns, and
        files: The file of its page by the place of a symbol, where that is not the symbol in small letters.
        records: Every different hit rate, its interval and n, as they are shown, of the first output's rows of
            `tell_kind`; the first is of a symbol without a settled row.
        record: A place in records, three digits a symbol.
    """
    report = inputs.report
    listed = [inputs.current.get(symbol, symbol) for symbol in report.forecasts["symbol"]]
    packed = pack_forecasts(report.forecasts.assign(symbol=listed), report.last_call)
    symbols: list[str] = packed["symbols"]
    hits = _hit_rates(select_output(scores, list_outputs(report.forecasts)[0]), tell_kind(inputs))
    unknown = ("", "", 0)
    records = dict.fromkeys([unknown, *(hits.get(symbol, unknown) for symbol in symbols)])
    places = {record: place for place, record in enumerate(records)}
    files = {at: name_page(symbol) for at, symbol in enumerate(symbols)}
    return packed | {
        "files": {at: file for at, file in files.items() if file != f"{symbols[at].lower()}.html"},
        "records": [*records],
        "record": "".join(write_number(places[hits.get(symbol, unknown)], 3) for symbol in symbols),
    }


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
