"""Whether a source still says what it said before: faults that must not reach the store, told apart from revisions.

Everything is compared as traded, so that a healthy split changes nothing: a constant ratio on a part of the
overlap means that the vendor's prices and the vendor's list of splits do not fit each other.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.market.corporate_actions import half_unit
from pipeline.prices.revisions import REVISION

__all__ = ["JUMP", "find_jumps", "find_overlap_faults", "find_revisions", "find_split_faults"]


JUMP = 1.2
"""No correction of a close moves it by more than this factor; a lost split or another unit may."""
# The share of closes that may be revised at once, if they are not few: beyond it another company stands there.
_MANY, _FEW = 0.2, 4
# A new close may leap by this factor without an action; a split of three for two is beyond it.
_UNEXPLAINED = 1.4
# Sessions that a leap must have stood for: vendors list a split some sessions late, not more.
_PATIENCE = 5
# Pence and pounds, cents and dollars: the logarithm, and how near a day's move leaves it.
_UNIT, _UNIT_SPREAD = np.log(100), 0.02
# Smaller ratios (spin-offs, stock dividends) hide in a day's move.
_REAL_SPLIT = 1.3
# Of the logarithm: what a close may do besides on the day of a split, and how much of the split's own.
_DAYS_MOVE, _SHARE = 0.15, 0.25
# Sessions within which one ratio is not split again.
_TWICE = 5
_KEY = ["symbol", "session"]
Floats = NDArray[np.float64]


def find_overlap_faults(stored: pd.DataFrame, observed: pd.DataFrame, whole: frozenset[str]) -> pd.DataFrame:
    """Return a finding for each symbol whose observed closes cannot follow those that are stored.

    Settled closes decide; provisional ones only where no settled one is there to compare.

    Args:
        stored: symbol, session, close, status, currency of what stands, as traded.
        observed: symbol, session, close, vendor_close, adjustment, currency of what the source says now.
        whole: The symbols whose whole history was asked for.

    Returns:
        symbol, session (the first one that differs), rule, detail. The rules: `currency changed`; `unit fault`, closes
        100 times or a hundredth; `split fault`, one ratio on a part; `symbol reuse`, more than 20% differ without
        order, or nothing is in common; `leap`, few differ, but by more than any revision does.
    """
    now = observed[[*_KEY, "close", "vendor_close", "adjustment", "currency"]]
    both = now.merge(stored[[*_KEY, "close", "status", "currency"]], on=_KEY, suffixes=("_now", ""))
    is_settled = both["status"] == "settled"
    both = both[is_settled | ~is_settled.groupby(both["symbol"]).transform("any")]
    ratio = both["close_now"] / both["close"]
    changed = both["currency_now"].notna() & both["currency"].notna()
    changed &= both["currency_now"] != both["currency"]
    suspects = both.loc[((ratio - 1).abs() > REVISION) | changed, "symbol"].unique()
    named = [(str(s), _name_fault(both[both["symbol"] == s], is_whole=s in whole)) for s in suspects]
    return pd.concat([_strangers(stored, now, both), _findings([(s, *fault) for s, fault in named if fault])])


def _strangers(stored: pd.DataFrame, now: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    settled = stored.loc[stored["status"] == "settled", "symbol"].unique()
    strangers = now[now["symbol"].isin(settled) & ~now["symbol"].isin(both["symbol"])]
    detail = "not one of the sessions that are stored is in the answer: another company's prices?"
    return strangers.drop_duplicates("symbol")[_KEY].assign(rule="symbol reuse", detail=detail)


def _name_fault(rows: pd.DataFrame, *, is_whole: bool) -> tuple[pd.Timestamp, str, str] | None:
    now, was = rows["currency_now"].iloc[-1], rows["currency"].iloc[-1]
    if pd.notna(now) and pd.notna(was) and now != was:
        return rows["session"].iloc[-1], "currency changed", f"stored in {was}, now given in {now}"
    logs = np.log(rows["close_now"].to_numpy() / rows["close"].to_numpy())
    printed = rows["vendor_close"].to_numpy(float)
    # With a split, closes in whole cents lose so much of themselves.
    rounding = 2 * half_unit(printed) / printed
    moved = np.abs(np.expm1(logs)) > np.maximum(REVISION, rounding)
    if not moved.any():
        return None
    first = rows["session"].to_numpy()[moved][0]
    span = f"{moved.sum()} of {len(rows)} closes from {pd.Timestamp(first):%Y-%m-%d}"
    ratio = float(np.exp(np.median(logs[moved])))
    if _is_unit(logs[moved]).all():
        return first, "unit fault", f"{span} are now given {ratio:.4g} times as high: another unit"
    if _is_one_ratio(logs[moved], 2 * float(rounding.max())):
        if is_whole and _is_dividend(rows, moved, ratio):
            return None
        detail = (
            f"{span} are now given {ratio:.6g} times as high: a split is late, lost, doubled or half applied"
        )
        return first, "split fault", detail
    if moved.mean() > _MANY and moved.sum() >= _FEW:
        return first, "symbol reuse", f"{span} differ without order: another company's prices?"
    if np.abs(logs).max() > np.log(JUMP):
        return first, "leap", f"{span} differ, one by a factor of {np.exp(np.abs(logs).max()):.4g}"
    return None


def _is_unit(logs: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.abs(logs) - _UNIT) < _UNIT_SPREAD)


def _is_one_ratio(logs: Floats, rounding: float) -> bool:
    """Whether more than one close moved, and all by the same ratio."""
    return len(logs) > 1 and bool(np.ptp(logs) < min(1e-3, np.abs(logs).min() / 20) + rounding)


def _is_dividend(rows: pd.DataFrame, moved: NDArray[np.bool_], ratio: float) -> bool:
    """Whether a vendor who adjusts closes for dividends has adjusted all those before a new one."""
    is_prefix = bool(moved[: moved.sum()].all())
    is_adjusted = rows["adjustment"].iloc[-1] == "split+dividend"
    return bool(is_adjusted and is_prefix and 1 / JUMP < ratio < JUMP)


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


def find_jumps(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each close that has not settled yet and leaps from the one before, with no action.

    A split that the vendor does not list yet looks like this; a crash does too, and when it has stood for five sessions
    it counts as one. A close that leaps and leaps back, and one that leaps to another unit, never count; the latter
    not even in a history that is seen for the first time, which may hold any other leap.

    Args:
        stored: symbol, session, close, split, dividend, status of what stands.
        observed: The same of what the source says now, ascending in session within each symbol.

    Returns:
        symbol, session, rule (`unexplained leap` or `unit fault`), detail.
    """
    suspects = observed.loc[np.abs(_growth(observed)) > np.log(_UNEXPLAINED), "symbol"].unique()
    if not len(suspects):
        return _findings([])
    observed, stored = (frame[frame["symbol"].isin(suspects)] for frame in (observed, stored))
    rows = _joined(stored, observed)
    growth, later = rows["growth"], rows.groupby("symbol").cumcount(ascending=False)
    after = -rows.groupby("symbol")["growth"].shift(-1)
    is_leap = (growth.abs() > np.log(_UNEXPLAINED)) & rows["symbol"].isin(stored["symbol"])
    is_spike = after.between(growth / 2, growth * 2) | after.between(growth * 2, growth / 2)
    is_unit = _is_unit(growth.to_numpy(float))
    doubted = rows["is_new"] & (is_unit | (is_leap & (is_spike | (later < _PATIENCE))))
    found = rows[doubted].assign(rule=np.where(is_unit[doubted], "unit fault", "unexplained leap"))
    told = [_tell_leap(row.before, row.close) for row in found.itertuples()]
    return _findings(list(zip(found["symbol"], found["session"], found["rule"], told, strict=True)))


def _joined(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return what is observed and what else stands, with the close before each and the growth from it."""
    numbers = [*_KEY, "close", "split", "dividend"]
    stands, seen = (pd.MultiIndex.from_frame(frame[_KEY]) for frame in (stored, observed))
    settled = stands[(stored["status"] == "settled").to_numpy()]
    known = stored.loc[~stands.isin(seen), numbers].assign(is_new=False)
    rows = pd.concat([observed[numbers].assign(is_new=~seen.isin(settled)), known])
    rows = rows.sort_values(_KEY, kind="stable", ignore_index=True)
    return rows.assign(before=rows.groupby("symbol")["close"].shift(), growth=_growth(rows))


def _growth(rows: pd.DataFrame) -> Floats:
    """Return the logarithm of what the holder of a share at the close before has made, NaN on each first row."""
    is_first = np.diff(pd.factorize(rows["symbol"])[0], prepend=-1) != 0
    before = rows["close"].shift().to_numpy(float)
    value = ((rows["close"] + rows["dividend"]) * rows["split"]).to_numpy(float)
    return np.where(is_first, np.nan, np.log(value / before))


def _tell_leap(old: float, new: float) -> str:
    return (
        f"the close went from {old:.6g} to {new:.6g} and no split is listed: one that comes late, another unit, or "
        f"true; a leap that is neither taken back nor of a unit counts once it has stood for {_PATIENCE} sessions"
    )


def find_revisions(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each settled close, split or dividend that the source now gives otherwise, as traded.

    Args:
        stored: symbol, session, close, split, dividend, status of what stands.
        observed: symbol, session, close, split, dividend, adjustment of what the source says now.
    """
    # Where closes are adjusted for dividends, each of them moves all that went before.
    observed = observed[observed["adjustment"] != "split+dividend"]
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
