"""Quality checks of fetched bars: a finding per fault; faulty bars are dropped, never repaired."""

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
from pipeline.prices.ingest.dividends import find_dividend_doubts
from pipeline.prices.ingest.partial_bars import mend_bars
from pipeline.schema import PRICES, empty
from pipeline.sources import Fetched

__all__ = [
    "FINDING_COLUMNS",
    "WRONG_CALENDAR",
    "Checked",
    "check",
    "find_broken_rules",
    "find_dividend_mismatches",
    "find_missing",
    "is_refusal",
    "no_findings",
]

FINDING_COLUMNS = ["symbol", "session", "rule", "detail"]
WRONG_CALENDAR = "wrong calendar"
"""The rule that a symbol breaks which trades in another time zone than the calendar: nothing of it is stored."""

_DIVIDEND_TOLERANCE = 1e-3
"""How far a dividend and the step of the adjusted close may differ, as a share of the price."""

_PRICES = ["open", "high", "low", "close"]

_RULE_NAMES = {
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
    """The bars that passed the checks (schema.PRICES), and the findings."""

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
    stored: pd.DataFrame | None = None,
) -> Checked:
    """Convert the answers of a source to price rows, and check them.

    Dropped with a finding: symbols whose exchange has another time zone than the calendar, rows on days that are no
    session, duplicate rows of a session, rows after `today`, and rows that violate schema.PRICES. Dropped without a
    finding: other rows after `as_of`, whose session has not closed yet. With one finding per symbol, an open or close
    that lies outside low..high by up to 5% of the price widens the range, an open that cannot be one is left out of its
    bar, and a bar lacks what other bars of the symbol have: the open, or high and low where the source may lack them.
    A session without a row between a symbol's first and last bar is a finding too. The split and the dividend of a
    dropped row are carried to the symbol's next good row, with a finding.

    Args:
        answers: The answers with the outcome ok.
        calendar: The exchange's sessions.
        as_of: The last session that counts as closed.
        source: The name of the source, written to each row.
        historical: Whether the source ended in the past; all its bars are settled.
        today: The current day at the exchange; None, where the clock is set to the past, skips that check.
        instruments: instrument_id by symbol, where the two differ.
        stored: symbol and session of the stored bars: the action of a dropped row is not carried on if the bar of its
            session is already stored with that action, and ranges and dividends of stored bars are no finding again.
    """
    fits = [_matches_time_zone(answer, calendar) for answer in answers]
    found = [no_findings()]
    found += [_wrong_calendar(answer, calendar) for answer, fit in zip(answers, fits, strict=True) if not fit]
    found += [_source_findings(answer) for answer in answers if answer.findings]
    if not any(fits):
        return Checked(empty(PRICES), pd.concat(found, ignore_index=True))
    bars = _concatenate(
        [answer for answer, fit in zip(answers, fits, strict=True) if fit], source, instruments or {}
    )
    if today is not None:
        found.append(_findings(bars[bars["session"] > today], "future date", f"today is {today:%Y-%m-%d}"))
    bars = bars[bars["session"] <= as_of]
    is_session = bars["session"].isin(calendar.sessions)
    is_second = bars.duplicated(["symbol", "session"], keep="last") & is_session
    # A duplicate row repeats the first one's action: only rows on closed days carry theirs on.
    single, is_open = bars[~is_second], is_session[~is_second].to_numpy()
    rows = carry_actions(single, is_open).reset_index(drop=True)
    rows = rows.assign(status=_status(rows, calendar, historical))[list(PRICES.columns)]
    rows, mended = mend_bars(rows)
    broken = find_broken_rules(rows, _needed_prices(answers))
    kept = ~_is_in(rows, broken)
    if stored is not None and not kept.all():
        rows.loc[~kept & _is_in(rows, stored), ["split", "dividend"]] = 1.0, 0.0
    good = carry_actions(rows, kept).reset_index(drop=True)
    doubts = find_dividend_doubts(good)
    found += [
        _carried(single, is_open),
        _findings(bars[~is_session], "no session", f"{calendar.name} was closed"),
        _findings(bars[is_second], "second row", "the last row of the session was kept"),
        *_missing_sessions(rows, calendar),
        *mended.findings(lambda bars: _without(_without(bars, broken), stored)),
        broken,
        _carried(rows, kept),
        _without(doubts, stored),
        find_dividend_mismatches(rows),
    ]
    findings = pd.concat(found, ignore_index=True).sort_values(["symbol", "session"], ignore_index=True)
    return Checked(good, findings)


def _concatenate(answers: Sequence[Fetched], source: str, instruments: Mapping[str, str]) -> pd.DataFrame:
    """Return the bars of all answers as traded, with each answer's attributes on each of its rows.

    All in one frame: checking a thousand small ones would take a thousand times as long.
    """
    parts = [as_traded(a.bars, a.adjustment, lists_actions=a.lists_actions) for a in answers]
    counts = [len(part) for part in parts]
    bars = pd.concat(parts, ignore_index=True).rename(columns={"adj_close": "vendor_adj_close"})
    # An adjusted close is evidence only, so one that is not finite counts as missing and costs no bar.
    bars["vendor_adj_close"] = bars["vendor_adj_close"].where(np.isfinite(bars["vendor_adj_close"]))
    bars["vendor_close"] = pd.concat([answer.bars["close"] for answer in answers], ignore_index=True)
    texts: dict[str, list[Any]] = {
        "instrument_id": [instruments.get(answer.symbol, answer.symbol) for answer in answers],
        "symbol": [answer.symbol for answer in answers],
        "adjustment": [answer.adjustment for answer in answers],
        "currency": [answer.currency or None for answer in answers],
        "source": [source] * len(answers),
    }
    for name, values in texts.items():
        bars[name] = pd.array(values, dtype="str").repeat(counts)
    observed_at = pd.to_datetime([answer.observed_at for answer in answers], utc=True)
    return bars.assign(observed_at=observed_at.as_unit("us").repeat(counts))


def _is_in(rows: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Return bool [row]: whether the row's (symbol, session) occurs in `others`."""
    others = others[
        others["session"].isin(rows["session"].unique()) & others["symbol"].isin(rows["symbol"].unique())
    ]
    if others.empty:
        return np.zeros(len(rows), dtype=bool)
    other_keys, keys = (pd.MultiIndex.from_frame(frame[["symbol", "session"]]) for frame in (others, rows))
    return keys.isin(other_keys)


def _without(rows: pd.DataFrame, stored: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows whose (symbol, session) is not stored."""
    return rows if stored is None or rows.empty else rows[~_is_in(rows, stored)]


def _needed_prices(answers: Sequence[Fetched]) -> tuple[str, ...]:
    may_lack_range = all(answer.may_lack_range for answer in answers)
    return ("close",) if may_lack_range else ("high", "low", "close")


def _wrong_calendar(fetched: Fetched, calendar: Calendar) -> pd.DataFrame:
    detail = f"{fetched.symbol} trades in {fetched.timezone}, {calendar.name} in {calendar.timezone}"
    if (suggested := suggest_calendar(fetched.timezone, fetched.symbol)) is not None:
        detail += f", and the calendar of its exchange is {suggested}"
    return _findings(fetched.bars[["session"]].tail(1).assign(symbol=fetched.symbol), WRONG_CALENDAR, detail)


def _source_findings(fetched: Fetched) -> pd.DataFrame:
    rows = [(fetched.symbol, *finding) for finding in fetched.findings]
    return pd.DataFrame(rows, columns=FINDING_COLUMNS)


def _matches_time_zone(fetched: Fetched, calendar: Calendar) -> bool:
    """Whether the answer's time zone, if stated, has the calendar's local time on the day of every bar."""
    if fetched.timezone in ("", calendar.timezone) or fetched.bars.empty:
        return True
    noon = pd.DatetimeIndex(fetched.bars["session"]).tz_localize("UTC") + pd.Timedelta(hours=12)
    try:
        local = noon.tz_convert(fetched.timezone).tz_localize(None)
    except (KeyError, ValueError):  # no such time zone
        return False
    return bool((local == noon.tz_convert(calendar.timezone).tz_localize(None)).all())


def _carried(bars: pd.DataFrame, kept: NDArray[np.bool_]) -> pd.DataFrame:
    """Return a finding for each split or dividend of a dropped bar that a later bar carries."""
    if kept.all():
        return no_findings()
    target = bars["session"].where(kept).groupby(bars["symbol"]).bfill()
    carried = bars.assign(target=target)[has_action(bars) & ~kept & target.notna()]
    detail = [
        f"split {row.split:g}, dividend {row.dividend:g} carried to {row.target:%Y-%m-%d}"
        for row in carried.itertuples()
    ]
    return carried[["symbol", "session"]].assign(rule="action moved", detail=detail)[FINDING_COLUMNS]


def _findings(bars: pd.DataFrame, rule: str, detail: str) -> pd.DataFrame:
    return bars[["symbol", "session"]].assign(rule=rule, detail=detail)


def _status(rows: pd.DataFrame, calendar: Calendar, historical: bool) -> ExtensionArray:
    is_provisional = np.zeros(len(rows), dtype=np.int64)
    earliest = rows["observed_at"].min()
    for session in [] if historical else sorted(rows["session"].unique(), reverse=True):
        due = calendar.settled_at(session)
        if due <= earliest:  # earlier sessions are due even earlier
            break
        is_provisional |= ((rows["session"] == session) & (due > rows["observed_at"])).to_numpy()
    return pd.array(["settled", "provisional"], dtype="str").take(is_provisional)


def is_refusal(rules: "pd.Series[str]") -> "pd.Series[bool]":
    """Return whether each rule of a finding is one whose violation drops the row (`find_broken_rules`)."""
    rule: pd.Series[str] = rules.astype(str).str.split(": ").str[-1]
    return rule.isin(list(_RULE_NAMES.values()))


def find_broken_rules(rows: pd.DataFrame, needed: Sequence[str] = ("close",)) -> pd.DataFrame:
    """Return a finding for each row and each rule that it violates: those of the schema, and no needed price missing.

    Args:
        rows: schema.PRICES, indexed 0..n-1.
        needed: The prices that must be there.
    """
    lacking = rows[_PRICES].isna()
    incomplete = np.flatnonzero(lacking[list(needed)].to_numpy().any(axis=1))
    missing = [", ".join(lacking.columns[lacking.iloc[row]]) for row in incomplete]
    cases = _find_schema_faults(rows)
    place = np.concatenate([incomplete, cases["index"].to_numpy(np.intp)])
    if not len(place):
        return no_findings()
    rules = [f"{names}: {_RULE_NAMES['not_nullable']}" for names in missing] + cases["rule"].tolist()
    return pd.DataFrame(
        {
            "symbol": rows["symbol"].to_numpy()[place],
            "session": rows["session"].to_numpy()[place],
            "rule": rules,
            "detail": [_format_bar(rows.iloc[row]) for row in place],
        }
    )


def _find_schema_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """Return index and rule of each fault that the schema finds, but for missing prices."""
    try:
        PRICES.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        return pd.DataFrame({"index": [], "rule": []})
    # A rule across columns lists every column of the row: one finding per row and rule is enough.
    column = cases["column"].astype(str).where(cases["schema_context"] != "DataFrameSchema", "")
    is_price = column.isin(_PRICES) & (cases["check"] == "not_nullable")
    cases = cases.assign(column=column)[~is_price].drop_duplicates(["index", "check", "column"])
    rules = [_RULE_NAMES.get(str(check), str(check)) for check in cases["check"]]
    named = [f"{name}: {rule}" if name else rule for name, rule in zip(cases["column"], rules, strict=True)]
    return pd.DataFrame({"index": cases["index"].astype(int), "rule": named})


def find_dividend_mismatches(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each session on which the vendor's adjusted closes contradict its dividends.

    The step of adjusted over plain close must be 1 - D[t]/C[t-1] (Yahoo's definition, see corporate_actions), where
    both adjusted closes are of one answer: each later dividend moves all adjusted closes before it. The bars are stored
    unchanged: returns are computed from the dividends, so the user should know of a lost or late one.

    Args:
        rows: schema.PRICES, ascending in session within each symbol.
    """
    factor = rows["vendor_adj_close"] / rows["vendor_close"]
    before = rows[["close", "observed_at"]].assign(factor=factor).groupby(rows["symbol"]).shift()
    step = before["factor"] / factor
    # Where the vendor's closes are raw, a split moves adjusted over plain close too.
    step *= rows["split"].where(rows["adjustment"] == "raw", 1.0)
    expected = 1 - rows["dividend"] * rows["split"] / before["close"]
    is_doubted = ((step - expected).abs() > _DIVIDEND_TOLERANCE) & (rows["adjustment"] != "split+dividend")
    is_doubted &= before["observed_at"] == rows["observed_at"]
    doubted = rows[is_doubted].assign(step=step[is_doubted], expected=expected[is_doubted])
    detail = [
        f"a dividend of {row.dividend:.6g} implies the factor {row.expected:.6f}, the adjusted closes {row.step:.6f}"
        for row in doubted.itertuples()
    ]
    return doubted[["symbol", "session"]].assign(rule="dividend in doubt", detail=detail)[FINDING_COLUMNS]


def _format_bar(row: "pd.Series[Any]") -> str:
    return ", ".join(f"{name} {row[name]:.6g}" for name in ("open", "high", "low", "close", "volume"))


def find_missing(rows: pd.DataFrame, symbol: str, calendar: Calendar) -> pd.DataFrame:
    """Return a finding for each session without a row between the first and the last row of one symbol."""
    if rows.empty:
        return no_findings()
    expected = calendar.sessions_between(rows["session"].min(), rows["session"].max())
    missing = pd.DataFrame({"session": expected[~expected.isin(rows["session"])]}).assign(symbol=symbol)
    return _findings(missing, "missing session", "no bar; no forecast that needs it is made")


def _missing_sessions(rows: pd.DataFrame, calendar: Calendar) -> list[pd.DataFrame]:
    place = calendar.sessions.get_indexer(pd.DatetimeIndex(rows["session"]))
    is_after_gap = (np.diff(place, prepend=0) > 1) & (rows["symbol"] == rows["symbol"].shift())
    symbols = rows.loc[is_after_gap, "symbol"].unique()
    return [find_missing(rows[rows["symbol"] == symbol], symbol, calendar) for symbol in symbols]
