"""What is wrong with bars: each fault by symbol, session and rule; a faulty bar is kept out, never repaired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from pipeline.market.calendar import Calendar
from pipeline.market.corporate_actions import as_traded, carry_actions, has_action
from pipeline.market.exchanges import suggest_calendar
from pipeline.schema import PRICES, empty
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
    standing: pd.DataFrame | None = None,
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
        standing: symbol and session of the bars that are stored: the action of a row that is kept out does not move
            where its bar stands, with that action, already.
    """
    in_time = [_keeps_time(answer, calendar) for answer in answers]
    found = [no_findings()]
    found += [
        _stranger(answer, calendar) for answer, keeps in zip(answers, in_time, strict=True) if not keeps
    ]
    if not any(in_time):
        return Checked(empty(PRICES), pd.concat(found, ignore_index=True))
    bars = _in_one(
        [answer for answer, keeps in zip(answers, in_time, strict=True) if keeps], source, instruments or {}
    )
    if today is not None:
        found.append(_name(bars[bars["session"] > today], "future date", f"today is {today:%Y-%m-%d}"))
    bars = bars[bars["session"] <= as_of]
    is_session = bars["session"].isin(calendar.sessions)
    is_second = bars.duplicated(["symbol", "session"], keep="last") & is_session
    # A second row repeats the action of the first: only days that are no session hand theirs on.
    single, is_open = bars[~is_second], is_session[~is_second].to_numpy()
    rows = carry_actions(single, is_open).reset_index(drop=True)
    rows = rows.assign(status=_status(rows, calendar, historical))[list(PRICES.columns)]
    broken = find_broken_rules(rows)
    kept = ~_is_among(rows, broken)
    if standing is not None and not kept.all():
        rows.loc[~kept & _is_among(rows, standing), ["split", "dividend"]] = 1.0, 0.0
    found += [
        _moved(single, is_open),
        _name(bars[~is_session], "no session", f"{calendar.name} was closed"),
        _name(bars[is_second], "second row", "the last row of the session was kept"),
        *_holes(rows, calendar),
        broken,
        _moved(rows, kept),
        find_dividend_doubts(rows),
    ]
    findings = pd.concat(found, ignore_index=True).sort_values(["symbol", "session"], ignore_index=True)
    return Checked(carry_actions(rows, kept).reset_index(drop=True), findings)


def _in_one(answers: Sequence[Fetched], source: str, instruments: Mapping[str, str]) -> pd.DataFrame:
    """Return the bars as traded of all answers, with what each answer says of itself on each of its rows.

    One frame, because a thousand small ones take a thousand times as long.
    """
    parts = [as_traded(a.bars, a.adjustment, lists_actions=a.lists_actions) for a in answers]
    counts = [len(part) for part in parts]
    bars = pd.concat(parts, ignore_index=True).rename(columns={"adj_close": "vendor_adj_close"})
    bars["vendor_close"] = pd.concat([answer.bars["close"] for answer in answers], ignore_index=True)
    texts: dict[str, list[Any]] = {
        "instrument_id": [instruments.get(answer.symbol, answer.symbol) for answer in answers],
        "symbol": [answer.symbol for answer in answers],
        "adjustment": [answer.adjustment for answer in answers],
        "currency": [answer.currency or None for answer in answers],
        "source": [source] * len(answers),
    }
    for name, said in texts.items():
        bars[name] = pd.array(said, dtype="str").repeat(counts)
    observed_at = pd.to_datetime([answer.observed_at for answer in answers], utc=True)
    return bars.assign(observed_at=observed_at.as_unit("us").repeat(counts))


def _is_among(rows: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each row whether its symbol and session are among those of others."""
    if others.empty:
        return np.zeros(len(rows), dtype=bool)
    there, here = (pd.MultiIndex.from_frame(frame[["symbol", "session"]]) for frame in (others, rows))
    return here.isin(there)


def _stranger(fetched: Fetched, calendar: Calendar) -> pd.DataFrame:
    detail = f"{fetched.symbol} trades in {fetched.timezone}, {calendar.name} in {calendar.timezone}"
    if (suggested := suggest_calendar(fetched.timezone, fetched.symbol)) is not None:
        detail += f", and the calendar of its exchange is {suggested}"
    return _name(fetched.bars[["session"]].tail(1).assign(symbol=fetched.symbol), "wrong calendar", detail)


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
        return no_findings()
    onto = bars["session"].where(kept).groupby(bars["symbol"]).bfill()
    moved = bars.assign(onto=onto)[has_action(bars) & ~kept & onto.notna()]
    detail = [
        f"split {row.split:g}, dividend {row.dividend:g} carried to {row.onto:%Y-%m-%d}"
        for row in moved.itertuples()
    ]
    return moved[["symbol", "session"]].assign(rule="action moved", detail=detail)[FINDING_COLUMNS]


def _name(bars: pd.DataFrame, rule: str, detail: str) -> pd.DataFrame:
    return bars[["symbol", "session"]].assign(rule=rule, detail=detail)


def _status(rows: pd.DataFrame, calendar: Calendar, historical: bool) -> ExtensionArray:
    is_open = np.zeros(len(rows), dtype=np.int64)
    earliest = rows["observed_at"].min()
    for session in [] if historical else sorted(rows["session"].unique(), reverse=True):
        due = calendar.settled_at(session)
        if due <= earliest:  # and those before it are due before it
            break
        is_open |= ((rows["session"] == session) & (due > rows["observed_at"])).to_numpy()
    return pd.array(["settled", "provisional"], dtype="str").take(is_open)


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
    missing = pd.DataFrame({"session": expected[~expected.isin(rows["session"])]}).assign(symbol=symbol)
    return _name(missing, "missing session", "no bar; the symbol has no forecast that needs it")


def _holes(rows: pd.DataFrame, calendar: Calendar) -> list[pd.DataFrame]:
    place = calendar.sessions.get_indexer(pd.DatetimeIndex(rows["session"]))
    leaps = (np.diff(place, prepend=0) > 1) & (rows["symbol"] == rows["symbol"].shift())
    holed = rows.loc[leaps, "symbol"].unique()
    return [find_missing(rows[rows["symbol"] == symbol], symbol, calendar) for symbol in holed]
