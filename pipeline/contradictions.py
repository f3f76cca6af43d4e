"""Whether a source still says what it said before: faults that must not reach the store, told apart from revisions.

Everything is compared as traded, so that a healthy split changes nothing: a constant ratio on a part of the
overlap means that the vendor's prices and the vendor's list of splits do not fit each other.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["LEAP", "REVISION", "find_leaps", "find_overlap_faults", "find_revisions", "find_split_faults"]

REVISION = 2e-5
"""A close that moves by a smaller share is no revision: vendors compute in single precision."""

LEAP = 1.2
"""No correction of a close moves it by more than this factor; a lost split or another unit may."""

# The share of closes that may be revised at once; beyond it another company stands behind the symbol.
_MANY = 0.2
# A new close may leap by this factor without an action; a split of three for two is beyond it.
_UNEXPLAINED = 1.4
# Sessions that a leap must have stood for: vendors list a split some sessions late, not more.
_PATIENCE = 5
_UNIT = np.log(100)  # pence and pounds, cents and dollars
_UNIT_SPREAD = 0.02
_REAL_SPLIT = 1.3  # smaller ratios (spin-offs, stock dividends) hide in a day's move
_DAYS_MOVE = 0.15  # of the logarithm: what a close may do besides on the day of a split,
_SHARE = 0.25  # and how much of the split's own
_TWICE = 5  # sessions within which one ratio is not split again

Floats = NDArray[np.float64]


def find_overlap_faults(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each symbol whose observed closes cannot follow those that are stored.

    Settled closes decide; provisional ones only where no settled one is there to compare.

    Args:
        stored: symbol, session, close, status, currency of what stands, as traded.
        observed: symbol, session, close, currency of what the source says now, as traded.

    Returns:
        symbol, session (the first one that differs), rule, detail. The rules: `currency changed`; `unit fault`, every
        close 100 times or a hundredth; `split fault`, one ratio on a part; `symbol reuse`, more than 20% differ without
        order; `leap`, few differ, but by more than any revision does.
    """
    both = observed[["symbol", "session", "close", "currency"]].merge(
        stored[["symbol", "session", "close", "status", "currency"]],
        on=["symbol", "session"],
        suffixes=("_now", ""),
    )
    is_settled = both["status"] == "settled"
    both = both[is_settled | ~is_settled.groupby(both["symbol"]).transform("any")]
    ratio = both["close_now"] / both["close"]
    changed = (
        both["currency_now"].notna() & both["currency"].notna() & (both["currency_now"] != both["currency"])
    )
    suspects = both.loc[((ratio - 1).abs() > REVISION) | changed, "symbol"].unique()
    named = [(str(symbol), _name_fault(both[both["symbol"] == symbol])) for symbol in suspects]
    return _findings([(symbol, *fault) for symbol, fault in named if fault])


def _name_fault(rows: pd.DataFrame) -> tuple[pd.Timestamp, str, str] | None:
    now, was = rows["currency_now"].iloc[-1], rows["currency"].iloc[-1]
    if pd.notna(now) and pd.notna(was) and now != was:
        return rows["session"].iloc[-1], "currency changed", f"stored in {was}, now given in {now}"
    logs = np.log(rows["close_now"].to_numpy() / rows["close"].to_numpy())
    moved = np.abs(np.expm1(logs)) > REVISION
    first = rows["session"].to_numpy()[moved][0]
    span = f"{moved.sum()} of {len(rows)} closes from {pd.Timestamp(first):%Y-%m-%d}"
    ratio = float(np.exp(np.median(logs[moved])))
    if (np.abs(np.abs(logs) - _UNIT) < _UNIT_SPREAD).all():
        return first, "unit fault", f"{span} are now given {ratio:.4g} times as high: another unit"
    if _is_one_ratio(logs[moved]):
        detail = (
            f"{span} are now given {ratio:.6g} times as high: a split is late, lost, doubled or half applied"
        )
        return first, "split fault", detail
    if moved.mean() > _MANY:
        return first, "symbol reuse", f"{span} differ without order: another company's prices?"
    if np.abs(logs).max() > np.log(LEAP):
        return first, "leap", f"{span} differ, one by a factor of {np.exp(np.abs(logs).max()):.4g}"
    return None


def _is_one_ratio(logs: Floats) -> bool:
    """Whether more than one close moved, and all by the same ratio."""
    return len(logs) > 1 and bool(np.ptp(logs) < min(1e-3, np.abs(logs).min() / 20))


def find_split_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each split of one answer that its own prices contradict.

    Args:
        rows: schema.PRICES of any symbols, ascending in session within each.

    Returns:
        symbol, session, rule (`split fault`), detail: a split is listed but the prices before it are not adjusted (or,
        where the source gives raw prices, do not jump), or one ratio is listed twice within a few sessions.
    """
    log_split = np.log(rows["split"])
    growth = np.log(rows["close"] * rows["split"] / rows.groupby("symbol")["close"].shift())
    expected = log_split.where(rows["adjustment"] == "raw", -log_split)
    is_real = log_split.abs() > np.log(_REAL_SPLIT)
    unseen = rows[is_real & ((growth - expected).abs() < np.minimum(_DAYS_MOVE, _SHARE * log_split.abs()))]
    found = [
        (
            row.symbol,
            row.session,
            "split fault",
            f"the split of {row.split:g} is listed, the closes do not show it",
        )
        for row in unseen.itertuples()
    ]
    acted = rows[is_real].assign(place=rows.groupby("symbol").cumcount()[is_real])
    before = acted.groupby("symbol")[["split", "place"]].shift()
    twice = acted[(acted["split"] == before["split"]) & (acted["place"] - before["place"] <= _TWICE)]
    found += [
        (row.symbol, row.session, "split fault", f"the split of {row.split:g} is listed twice")
        for row in twice.itertuples()
    ]
    return _findings(found)


def find_leaps(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each new close that leapt from the one before, with no action and not long ago.

    A split that the vendor does not list yet looks like this, and so does a bar in pence; a crash does too, and when it
    has stood for five sessions it counts as one. Histories that are seen for the first time may hold any leap.

    Args:
        stored: symbol and session of what stands.
        observed: symbol, session, close, split, dividend, ascending in session within each symbol.

    Returns:
        symbol, session, rule (`unexplained leap`), detail.
    """
    if stored.empty:
        return _findings([])
    newest = stored.groupby("symbol")["session"].max()
    by_symbol = observed.groupby("symbol")
    before, later = by_symbol["close"].shift(), by_symbol.cumcount(ascending=False)
    growth = ((observed["close"] + observed["dividend"]) * observed["split"] / before).to_numpy(float)
    is_new = observed["session"] > observed["symbol"].map(newest)
    leapt = is_new & (np.abs(np.log(growth)) > np.log(_UNEXPLAINED)) & (later < _PATIENCE)
    return _findings(
        [
            (row.symbol, row.session, "unexplained leap", _tell_leap(row.before, row.close))
            for row in observed.assign(before=before)[leapt].itertuples()
        ]
    )


def _tell_leap(old: float, new: float) -> str:
    return (
        f"the close went from {old:.6g} to {new:.6g} and no split is listed: one that comes late, another unit, or "
        f"true; it counts once it has stood for {_PATIENCE} sessions"
    )


def find_revisions(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each settled close, split or dividend that the source now gives otherwise, as traded.

    Args:
        stored: symbol, session, close, split, dividend, status of what stands.
        observed: symbol, session, close, split, dividend of what the source says now.
    """
    both = stored[stored["status"] == "settled"].merge(
        observed, on=["symbol", "session"], suffixes=("", "_now")
    )
    found = []
    for name in ("close", "split", "dividend"):
        moved = both[~np.isclose(both[f"{name}_now"], both[name], rtol=REVISION, atol=0)]
        said = zip(moved["symbol"], moved["session"], moved[name], moved[f"{name}_now"], strict=True)
        found += [
            (symbol, session, "revised", f"{name} {old:.6g} is now given as {new:.6g}")
            for symbol, session, old, new in said
        ]
    return _findings(found)


def _findings(found: list[tuple[str, pd.Timestamp, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["symbol", "session", "rule", "detail"])
