"""What is wrong with bars: each fault by symbol, session and rule; a faulty bar is kept out, never repaired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from pipeline.adjust import as_traded
from pipeline.schema import PRICES, empty
from pipeline.sessions import Calendar
from pipeline.sources import Fetched

__all__ = ["FINDING_COLUMNS", "Checked", "check", "find_revisions", "no_findings"]

FINDING_COLUMNS = ["symbol", "session", "rule", "detail"]
_REVISION = 2e-5
_EXPLAINED = {
    "not_nullable": "the value is missing",
    "greater_than(0)": "a price must be above zero",
    "greater_than_or_equal_to(0)": "a volume cannot be negative",
    "low_not_above_high": "low lies above high",
    "close_within_low_high": "close lies outside low..high",
    "open_within_low_high": "open lies outside low..high",
}


def no_findings() -> pd.DataFrame:
    """Return an empty frame of findings."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in FINDING_COLUMNS})


@dataclass(frozen=True, eq=False)
class Checked:
    """Bars that passed (schema.PRICES) and what was found in the others."""

    prices: pd.DataFrame
    findings: pd.DataFrame


def check(
    answers: Sequence[Fetched], calendar: Calendar, as_of: pd.Timestamp, *, source: str, historical: bool
) -> Checked:
    """Turn the answers of a source into price rows.

    Kept out, each with a finding: rows on days that are no session, second rows of a session, rows that break
    schema.PRICES. Left out in silence: rows after `as_of`, which are not closed yet. A session without a row
    between a symbol's first and last bar is a finding too.

    Args:
        answers: Those whose outcome is ok.
        calendar: Decides what a session is.
        as_of: The last session that counts as closed.
        source: The name of the source, kept on each row.
        historical: Whether the source ended in the past; its bars are settled.
    """
    parts = [_arrange(answer, calendar, as_of, source=source, historical=historical) for answer in answers]
    if not parts:
        return Checked(empty(PRICES), no_findings())
    rows = pd.concat([part.prices for part in parts], ignore_index=True)
    broken = _broken_rules(rows)
    findings = pd.concat([broken, *(part.findings for part in parts)], ignore_index=True)
    kept_out = pd.MultiIndex.from_frame(broken[["symbol", "session"]])
    good = rows[~pd.MultiIndex.from_frame(rows[["symbol", "session"]]).isin(kept_out)]
    return Checked(
        good.reset_index(drop=True), findings.sort_values(["symbol", "session"], ignore_index=True)
    )


def _arrange(
    fetched: Fetched, calendar: Calendar, as_of: pd.Timestamp, *, source: str, historical: bool
) -> Checked:
    bars = as_traded(fetched.bars, fetched.adjustment)
    bars = bars[bars["session"] <= as_of]
    is_session = bars["session"].isin(calendar.sessions)
    is_second = bars["session"].duplicated(keep="last") & is_session
    rows = _rows(bars[is_session & ~is_second], fetched, calendar, source=source, historical=historical)
    findings = [
        _name(fetched.symbol, bars.loc[~is_session, "session"], "no session", f"{calendar.name} was closed"),
        _name(
            fetched.symbol,
            bars.loc[is_second, "session"],
            "second row",
            "the last row of the session was kept",
        ),
        _missing(rows, fetched.symbol, calendar),
    ]
    return Checked(rows, pd.concat(findings, ignore_index=True))


def find_revisions(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each settled close that the source now gives otherwise, as traded."""
    both = stored[stored["status"] == "settled"].merge(
        observed, on=["symbol", "session"], suffixes=("", "_now")
    )
    moved = both[(both["close_now"] / both["close"] - 1).abs() > _REVISION]
    detail = [
        f"close {old:.6g} is now given as {new:.6g}"
        for old, new in zip(moved["close"], moved["close_now"], strict=True)
    ]
    return moved[["symbol", "session"]].assign(rule="revised", detail=detail)[FINDING_COLUMNS]


def _name(symbol: str, sessions: "pd.Series[pd.Timestamp]", rule: str, detail: str) -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbol, "session": sessions.to_numpy(), "rule": rule, "detail": detail})


def _rows(
    bars: pd.DataFrame, fetched: Fetched, calendar: Calendar, *, source: str, historical: bool
) -> pd.DataFrame:
    vendor = fetched.bars.set_index("session")[["close", "adj_close"]]
    vendor = vendor[~vendor.index.duplicated(keep="last")].loc[bars["session"]]
    rows = bars.drop(columns="adj_close").reset_index(drop=True)
    rows["vendor_close"], rows["vendor_adj_close"] = (
        vendor["close"].to_numpy(),
        vendor["adj_close"].to_numpy(),
    )
    rows["instrument_id"] = rows["symbol"] = fetched.symbol
    rows["adjustment"], rows["currency"], rows["source"] = (
        fetched.adjustment,
        fetched.currency or None,
        source,
    )
    rows["observed_at"] = pd.Series(fetched.observed_at, index=rows.index, dtype="datetime64[us, UTC]")
    rows["status"] = _status(rows["session"], calendar, fetched.observed_at, historical)
    text = ["instrument_id", "symbol", "adjustment", "currency", "source", "status"]
    return rows.astype(dict.fromkeys(text, "str"))[list(PRICES.columns)]


def _status(
    sessions: "pd.Series[pd.Timestamp]", calendar: Calendar, observed_at: datetime, historical: bool
) -> list[str]:
    if historical:
        return ["settled"] * len(sessions)
    # Settled-at rises with the session, so the first provisional one splits the list.
    place = len(sessions)
    while place and calendar.settled_at(sessions.iloc[place - 1]) > observed_at:
        place -= 1
    return ["settled"] * place + ["provisional"] * (len(sessions) - place)


def _broken_rules(rows: pd.DataFrame) -> pd.DataFrame:
    try:
        PRICES.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        return no_findings()
    # A rule across columns lists every column of the row: one finding a row and rule is enough.
    across = cases["schema_context"] == "DataFrameSchema"
    cases = pd.concat([cases[~across], cases[across].drop_duplicates(["index", "check"])])
    place = cases["index"].astype(int).to_numpy()
    column = np.where(cases["schema_context"] == "DataFrameSchema", "", cases["column"].astype(str) + ": ")
    rule = [_EXPLAINED.get(str(check), str(check)) for check in cases["check"]]
    given = [_quote(rows.iloc[row]) for row in place]
    return pd.DataFrame(
        {
            "symbol": rows["symbol"].to_numpy()[place],
            "session": rows["session"].to_numpy()[place],
            "rule": [f"{c}{r}" for c, r in zip(column, rule, strict=True)],
            "detail": given,
        }
    )


def _quote(row: "pd.Series[Any]") -> str:
    return ", ".join(f"{name} {row[name]:.6g}" for name in ("open", "high", "low", "close", "volume"))


def _missing(rows: pd.DataFrame, symbol: str, calendar: Calendar) -> pd.DataFrame:
    if rows.empty:
        return no_findings()
    expected = calendar.sessions_between(rows["session"].min(), rows["session"].max())
    missing = pd.Series(expected.difference(pd.DatetimeIndex(rows["session"])))
    return _name(symbol, missing, "missing session", "no bar; the symbol has no forecast that needs it")
