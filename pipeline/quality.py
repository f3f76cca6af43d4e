"""What is wrong with bars: each fault by symbol, session and rule; a faulty bar is kept out, never repaired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from pipeline.adjust import as_traded, carry_actions, has_action
from pipeline.schema import PRICES, empty
from pipeline.sessions import Calendar
from pipeline.sources import Fetched

__all__ = [
    "FINDING_COLUMNS",
    "Checked",
    "check",
    "find_broken_rules",
    "find_dividend_doubts",
    "find_missing",
    "no_findings",
]

FINDING_COLUMNS = ["symbol", "session", "rule", "detail"]
_DIVIDEND = 1e-3
"""The share of a price by which a dividend and the step of the adjusted close may differ."""

_EXPLAINED = {
    "not_nullable": "the value is missing",
    "finite": "the value is not finite",
    "greater_than(0)": "it must be above zero",
    "greater_than_or_equal_to(0)": "it cannot be negative",
    "low_not_above_high": "low lies above high",
    "close_within_low_high": "close lies outside low..high",
    "open_within_low_high": "open lies outside low..high",
}


def no_findings() -> pd.DataFrame:
    """Return an empty frame of findings."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in FINDING_COLUMNS})


_NOTHING = no_findings()


@dataclass(frozen=True, eq=False)
class Checked:
    """Bars that passed (schema.PRICES) and what was found in the others."""

    prices: pd.DataFrame
    findings: pd.DataFrame


def check(
    answers: Sequence[Fetched],
    calendar: Calendar,
    as_of: pd.Timestamp,
    *,
    source: str,
    historical: bool,
    today: pd.Timestamp | None = None,
    instruments: Mapping[str, str] | None = None,
) -> Checked:
    """Turn the answers of a source into price rows.

    Kept out, each with a finding: symbols whose exchange keeps another time than the calendar, rows on days that
    are no session, second rows of a session, rows after `today`, rows that break schema.PRICES. Left out in silence:
    other rows after `as_of`, which are not closed yet. A session without a row between a symbol's first and last bar
    is a finding too. The split and the dividend of a row that is kept out move to the symbol's next good row, with a
    finding.

    Args:
        answers: Those whose outcome is ok.
        calendar: Decides what a session is.
        as_of: The last session that counts as closed.
        source: The name of the source, kept on each row.
        historical: Whether the source ended in the past; its bars are settled.
        today: The day it is at the exchange, None where the clock was set back and nobody knows.
        instruments: instrument_id by symbol, where the two differ.
    """
    parts = [_arrange(answer, calendar, as_of, source=source, historical=historical) for answer in answers]
    if not parts:
        return Checked(empty(PRICES), no_findings())
    rows = pd.concat([part.prices for part in parts], ignore_index=True)
    ids = [(instruments or {}).get(answer.symbol, answer.symbol) for answer in answers]
    rows["instrument_id"] = pd.array(ids, dtype="str").repeat([len(part.prices) for part in parts])
    broken = find_broken_rules(rows)
    kept = np.ones(len(rows), dtype=bool)
    if not broken.empty:
        kept_out = pd.MultiIndex.from_frame(broken[["symbol", "session"]])
        kept = ~pd.MultiIndex.from_frame(rows[["symbol", "session"]]).isin(kept_out)
    found = [broken, _moved(rows, kept), find_dividend_doubts(rows), *(part.findings for part in parts)]
    found += [_future(answer, today) for answer in answers if today is not None]
    findings = pd.concat(found, ignore_index=True).sort_values(["symbol", "session"], ignore_index=True)
    return Checked(carry_actions(rows, kept).reset_index(drop=True), findings)


def _arrange(
    fetched: Fetched, calendar: Calendar, as_of: pd.Timestamp, *, source: str, historical: bool
) -> Checked:
    if not _keeps_time(fetched, calendar):
        detail = f"{fetched.symbol} trades in {fetched.timezone}, {calendar.name} in {calendar.timezone}"
        last = fetched.bars["session"].tail(1)
        return Checked(empty(PRICES), _name(fetched.symbol, last, "wrong calendar", detail))
    bars = as_traded(fetched.bars, fetched.adjustment).assign(symbol=fetched.symbol)
    bars = bars.assign(vendor_close=fetched.bars["close"], vendor_adj_close=fetched.bars["adj_close"])
    bars = bars[bars["session"] <= as_of]
    is_session = bars["session"].isin(calendar.sessions)
    is_second = bars["session"].duplicated(keep="last") & is_session
    # A second row repeats the action of the first: only days that are no session hand theirs on.
    single, is_open = bars[~is_second], is_session[~is_second].to_numpy()
    traded = carry_actions(single, is_open)
    rows = _rows(traded, fetched, calendar, source=source, historical=historical)
    findings = [
        _moved(single, is_open),
        _name(fetched.symbol, bars.loc[~is_session, "session"], "no session", f"{calendar.name} was closed"),
        _name(
            fetched.symbol,
            bars.loc[is_second, "session"],
            "second row",
            "the last row of the session was kept",
        ),
        find_missing(rows, fetched.symbol, calendar),
    ]
    return Checked(rows, pd.concat(findings, ignore_index=True))


def _future(fetched: Fetched, today: pd.Timestamp) -> pd.DataFrame:
    late = fetched.bars.loc[fetched.bars["session"] > today, "session"]
    return _name(fetched.symbol, late, "future date", f"today is {today:%Y-%m-%d}")


def _keeps_time(fetched: Fetched, calendar: Calendar) -> bool:
    """Whether the exchange's clock, where it is stated, shows the calendar's time on the day of every bar."""
    if fetched.timezone in ("", calendar.timezone) or fetched.bars.empty:
        return True
    noon = pd.DatetimeIndex(fetched.bars["session"]).tz_localize("UTC") + pd.Timedelta(hours=12)
    try:
        there = noon.tz_convert(fetched.timezone).tz_localize(None)
    except (KeyError, ValueError):  # no such time zone
        return False
    return bool((there == noon.tz_convert(calendar.timezone).tz_localize(None)).all())


def _moved(bars: pd.DataFrame, kept: NDArray[np.bool_]) -> pd.DataFrame:
    """Return a finding for each split or dividend of a bar that is not kept, where a later bar can carry it."""
    if kept.all():
        return _NOTHING
    onto = bars["session"].where(kept).groupby(bars["symbol"]).bfill()
    moved = bars.assign(onto=onto)[has_action(bars) & ~kept & onto.notna()]
    detail = [
        f"split {row.split:g}, dividend {row.dividend:g} carried to {row.onto:%Y-%m-%d}"
        for row in moved.itertuples()
    ]
    return moved[["symbol", "session"]].assign(rule="action moved", detail=detail)[FINDING_COLUMNS]


def _name(symbol: str, sessions: "pd.Series[pd.Timestamp]", rule: str, detail: str) -> pd.DataFrame:
    if sessions.empty:
        return _NOTHING
    return pd.DataFrame({"symbol": symbol, "session": sessions.to_numpy(), "rule": rule, "detail": detail})


def _rows(
    bars: pd.DataFrame, fetched: Fetched, calendar: Calendar, *, source: str, historical: bool
) -> pd.DataFrame:
    texts = {
        "instrument_id": fetched.symbol,
        "symbol": fetched.symbol,
        "adjustment": fetched.adjustment,
        "currency": fetched.currency or None,
        "source": source,
    }
    rows = bars.reset_index(drop=True)
    # A text repeated by Arrow: thousands of them one by one cost more than everything else here.
    rows = rows.assign(
        **{name: pd.array([text], dtype="str").repeat(len(rows)) for name, text in texts.items()}
    )
    rows["observed_at"] = pd.Series(fetched.observed_at, index=rows.index, dtype="datetime64[us, UTC]")
    settled = _count_settled(rows["session"], calendar, fetched.observed_at, historical)
    status = pd.array(["settled", "provisional"], dtype="str")
    rows["status"] = status.repeat([settled, len(rows) - settled])
    return rows[list(PRICES.columns)]


def _count_settled(
    sessions: "pd.Series[pd.Timestamp]", calendar: Calendar, observed_at: datetime, historical: bool
) -> int:
    place = len(sessions)
    # Settled-at rises with the session, so the first provisional one splits the list.
    while place and not historical and calendar.settled_at(sessions.iloc[place - 1]) > observed_at:
        place -= 1
    return place


def find_broken_rules(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each row (schema.PRICES, indexed 0..n-1) and rule of the schema that it breaks."""
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


def find_dividend_doubts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each session on which the vendor's adjusted closes and dividends say different things.

    The step of adjusted over plain close must be 1 - D[t]/C[t-1] (Yahoo's definition, as in adjust). The bars stand
    as they are: returns are made from the dividends, so one that is lost or late is for a person to know of.

    Args:
        rows: schema.PRICES, ascending in session within each symbol.
    """
    factor = rows["vendor_adj_close"] / rows["vendor_close"]
    before = rows[["close"]].assign(factor=factor).groupby(rows["symbol"]).shift()
    step = before["factor"] / factor
    # Where the vendor's closes are raw, adjusted over plain close steps by the split too.
    step *= rows["split"].where(rows["adjustment"] == "raw", 1.0)
    expected = 1 - rows["dividend"] * rows["split"] / before["close"]
    is_doubted = ((step - expected).abs() > _DIVIDEND) & (rows["adjustment"] != "split+dividend")
    doubted = rows[is_doubted].assign(step=step[is_doubted], expected=expected[is_doubted])
    detail = [
        f"a dividend of {row.dividend:.6g} makes {row.expected:.6f} of earlier closes, the vendor {row.step:.6f}"
        for row in doubted.itertuples()
    ]
    return doubted[["symbol", "session"]].assign(rule="dividend in doubt", detail=detail)[FINDING_COLUMNS]


def _quote(row: "pd.Series[Any]") -> str:
    return ", ".join(f"{name} {row[name]:.6g}" for name in ("open", "high", "low", "close", "volume"))


def find_missing(rows: pd.DataFrame, symbol: str, calendar: Calendar) -> pd.DataFrame:
    """Return a finding for each session without a row between the first and the last row of one symbol."""
    if rows.empty:
        return no_findings()
    expected = calendar.sessions_between(rows["session"].min(), rows["session"].max())
    missing = pd.Series(expected[~expected.isin(rows["session"])])
    return _name(symbol, missing, "missing session", "no bar; the symbol has no forecast that needs it")
