"""Compare a source's answer with the stored bars: distinguish faults, which must not be stored, from revisions.

All prices are compared as traded, so that a correct split changes nothing: a constant ratio on part of the overlap
means that the vendor's prices contradict the vendor's list of splits.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.market.corporate_actions import half_unit
from pipeline.prices.ingest.leaps import LASTING, describe_step, find_ways_back, is_unit_change, log_growth
from pipeline.prices.revisions import REVISION

__all__ = ["JUMP", "find_jumps", "find_overlap_faults", "find_revisions", "find_split_faults"]


JUMP = 1.2
"""The largest factor of a plausible correction of a close; a lost split or a unit change moves it by more."""
# The share of closes that may be revised at once; beyond it, and with at least _FEW of them, the symbol was reused.
_MAX_REVISED, _FEW = 0.2, 4
# The largest factor of a new close without an action; a split of three for two is beyond it.
_MAX_MOVE = 1.4
# The tolerance of the log ratio within which a history seen for the first time is certainly in two units.
_CERTAIN_UNIT = 0.02
# Smaller ratios (spin-offs, stock dividends) cannot be distinguished from a day's move.
_REAL_SPLIT = 1.3
# Tolerances of the log return on the day of a split: absolute, and as a share of the log split.
_ABSOLUTE, _RELATIVE = 0.15, 0.25
# Sessions within which the same ratio listed again is a duplicate.
_DUPLICATE_WITHIN = 5
_KEY = ["symbol", "session"]
Floats = NDArray[np.float64]


def find_overlap_faults(stored: pd.DataFrame, observed: pd.DataFrame, whole: frozenset[str]) -> pd.DataFrame:
    """Return a finding for each symbol whose observed closes contradict the stored ones.

    Settled closes decide; provisional ones only where no settled one can be compared.

    Args:
        stored: symbol, session, close, status, currency of the stored bars, as traded.
        observed: symbol, session, close, vendor_close, adjustment, currency of the source's answer.
        whole: The symbols whose whole history was requested.

    Returns:
        symbol, session (the first one that differs), rule, detail. The rules: `currency changed`; `unit fault`: closes
        differ by a factor of 100; `split fault`: part of the closes differ by one ratio; `symbol reuse`: more than 20%
        differ without a pattern, or no session is in common; `leap`: few closes differ, by more than a revision.
    """
    now = observed[[*_KEY, "close", "vendor_close", "adjustment", "currency"]]
    both = now.merge(stored[[*_KEY, "close", "status", "currency"]], on=_KEY, suffixes=("_now", ""))
    is_settled = both["status"] == "settled"
    both = both[is_settled | ~is_settled.groupby(both["symbol"]).transform("any")]
    ratio = both["close_now"] / both["close"]
    changed = both["currency_now"].notna() & both["currency"].notna()
    changed &= both["currency_now"] != both["currency"]
    suspects = both.loc[((ratio - 1).abs() > REVISION) | changed, "symbol"].unique()
    faults = [(str(s), _classify(both[both["symbol"] == s], is_whole=s in whole)) for s in suspects]
    return pd.concat(
        [_without_overlap(stored, now, both), _findings([(s, *fault) for s, fault in faults if fault])]
    )


def _without_overlap(stored: pd.DataFrame, now: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each stored symbol whose answer has no session in common with the store."""
    settled = stored.loc[stored["status"] == "settled", "symbol"].unique()
    others = now[now["symbol"].isin(settled) & ~now["symbol"].isin(both["symbol"].unique())]
    detail = "the answer has none of the stored sessions: another company's prices?"
    return others.drop_duplicates("symbol")[_KEY].assign(rule="symbol reuse", detail=detail)


def _classify(rows: pd.DataFrame, *, is_whole: bool) -> tuple[pd.Timestamp, str, str] | None:
    """Return session, rule and detail of one symbol's fault, None where its closes only show revisions."""
    now, was = rows["currency_now"].iloc[-1], rows["currency"].iloc[-1]
    if pd.notna(now) and pd.notna(was) and now != was:
        return rows["session"].iloc[-1], "currency changed", f"stored in {was}, the source now reports {now}"
    logs = np.log(rows["close_now"].to_numpy() / rows["close"].to_numpy())
    printed = rows["vendor_close"].to_numpy(float)
    # A split moves closes printed in whole cents by up to this share of the price.
    rounding = 2 * half_unit(printed) / printed
    moved = np.abs(np.expm1(logs)) > np.maximum(REVISION, rounding)
    if not moved.any():
        return None
    first = rows["session"].to_numpy()[moved][0]
    span = f"{moved.sum()} of {len(rows)} closes from {pd.Timestamp(first):%Y-%m-%d}"
    ratio = float(np.exp(np.median(logs[moved])))
    if is_unit_change(logs[moved]).all():
        return first, "unit fault", f"{span} are now {ratio:.4g} times as high: another unit"
    if _is_one_ratio(logs[moved], 2 * float(rounding.max())):
        if is_whole and _is_dividend(rows, moved, ratio):
            return None
        detail = (
            f"{span} are now {ratio:.6g} times as high: a split is late, lost, doubled or only partly applied"
        )
        return first, "split fault", detail
    if moved.mean() > _MAX_REVISED and moved.sum() >= _FEW:
        return first, "symbol reuse", f"{span} differ without a pattern: another company's prices?"
    if np.abs(logs).max() > np.log(JUMP):
        return first, "leap", f"{span} differ, one by a factor of {np.exp(np.abs(logs).max()):.4g}"
    return None


def _is_one_ratio(logs: Floats, rounding: float) -> bool:
    """Whether more than one close moved, and all by the same ratio."""
    return len(logs) > 1 and bool(np.ptp(logs) < min(1e-3, np.abs(logs).min() / 20) + rounding)


def _is_dividend(rows: pd.DataFrame, moved: NDArray[np.bool_], ratio: float) -> bool:
    """Whether the vendor adjusts closes for dividends, and a new dividend explains the change of all earlier closes."""
    is_prefix = bool(moved[: moved.sum()].all())
    is_adjusted = rows["adjustment"].iloc[-1] == "split+dividend"
    return bool(is_adjusted and is_prefix and 1 / JUMP < ratio < JUMP)


def find_split_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each listed split that the prices of the same answer contradict.

    Args:
        rows: schema.PRICES of any symbols, ascending in session within each.

    Returns:
        symbol, session, rule (`split fault`), detail: a split is listed, but the prices before it are not adjusted (raw
        prices: do not jump), or the same ratio is listed twice within a few sessions.
    """
    log_split = np.log(rows["split"])
    growth = np.log(rows["close"] * rows["split"] / rows.groupby("symbol")["close"].shift())
    expected = log_split.where(rows["adjustment"] == "raw", -log_split)
    is_real = log_split.abs() > np.log(_REAL_SPLIT)
    not_applied = rows[
        is_real & ((growth - expected).abs() < np.minimum(_ABSOLUTE, _RELATIVE * log_split.abs()))
    ]
    found = [
        (
            row.symbol,
            row.session,
            "split fault",
            f"the split of {row.split:g} is listed, but the closes do not show it",
        )
        for row in not_applied.itertuples()
    ]
    splits = rows[is_real].assign(place=rows.groupby("symbol").cumcount()[is_real])
    before = splits.groupby("symbol")[["split", "place"]].shift()
    twice = splits[
        (splits["split"] == before["split"]) & (splits["place"] - before["place"] <= _DUPLICATE_WITHIN)
    ]
    found += [
        (row.symbol, row.session, "split fault", f"the split of {row.split:g} is listed twice")
        for row in twice.itertuples()
    ]
    return _findings(found)


def find_jumps(
    stored: pd.DataFrame, observed: pd.DataFrame, doubtful_from: pd.Timestamp = pd.Timestamp.max
) -> pd.DataFrame:
    """Return a finding for each new close that jumps from the one before without a split or dividend.

    A split that the vendor has not listed yet looks like this, and so does a crash: a jump that has lasted for five
    sessions is accepted as real. A spike (a jump that reverts) and a change of the unit are never accepted. The way
    back from a stored spike is no jump. In a history seen for the first time a certain change of the unit counts
    anywhere, unless it is that of a single session; any other jump only from `doubtful_from` on, unless it was taken
    back (`find_leaps` names the earlier ones).

    Args:
        stored: symbol, session, close, split, dividend, status of the stored bars.
        observed: The same columns of the source's answer, ascending in session within each symbol.
        doubtful_from: The first session that is too recent for a jump to have lasted.

    Returns:
        symbol, session, rule (`unexplained leap` or `unit fault`), detail.
    """
    suspects = observed.loc[np.abs(log_growth(observed)) > np.log(_MAX_MOVE), "symbol"].unique()
    if not len(suspects):
        return _findings([])
    observed, stored = (frame[frame["symbol"].isin(suspects)] for frame in (observed, stored))
    rows = _joined(stored, observed)
    growth, later = rows["growth"], rows.groupby("symbol").cumcount(ascending=False)
    back, takes_back = find_ways_back(growth.to_numpy(float))
    is_jump = (growth.abs() > np.log(_MAX_MOVE)) & ~takes_back
    is_unit = is_unit_change(growth.to_numpy(float))
    is_first = ~rows["symbol"].isin(stored["symbol"].unique())
    is_recent = (later < LASTING) & (~is_first | ((rows["session"] >= doubtful_from) & (back == 0)))
    is_in_two_units = is_unit_change(growth.to_numpy(float), _CERTAIN_UNIT) & (back != 1)
    is_unlikely = np.where(is_first, is_in_two_units, is_unit | (back == 1))
    is_doubted = rows["is_new"] & is_jump & (is_recent | is_unlikely)
    found = rows[is_doubted].assign(rule=np.where(is_unit[is_doubted], "unit fault", "unexplained leap"))
    details = [
        f"{describe_step(row.before, row.close, row.dividend, row.split)}"
        f"{', and no split is listed' if row.split == 1 else ''}: a late split, another unit, or a real move; a jump "
        f"that neither reverts nor changes the unit is accepted once it has lasted {LASTING} sessions"
        for row in found.itertuples()
    ]
    return _findings(list(zip(found["symbol"], found["session"], found["rule"], details, strict=True)))


def _joined(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return the observed rows and the stored rows of other sessions, with `is_new`, `before` and `growth`.

    `before` is the previous close, `growth` the log return from it.
    """
    numbers = [*_KEY, "close", "split", "dividend"]
    known, seen = (pd.MultiIndex.from_frame(frame[_KEY]) for frame in (stored, observed))
    settled = known[(stored["status"] == "settled").to_numpy()]
    others = stored.loc[~known.isin(seen), numbers].assign(is_new=False)
    rows = pd.concat([observed[numbers].assign(is_new=~seen.isin(settled)), others])
    rows = rows.sort_values(_KEY, kind="stable", ignore_index=True)
    return rows.assign(before=rows.groupby("symbol")["close"].shift(), growth=log_growth(rows))


def find_revisions(stored: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each settled close, split or dividend that the source now reports differently, as traded.

    Args:
        stored: symbol, session, close, split, dividend, status of the stored bars.
        observed: symbol, session, close, split, dividend, adjustment of the source's answer.
    """
    # Where closes are adjusted for dividends, each new dividend moves all earlier closes.
    observed = observed[observed["adjustment"] != "split+dividend"]
    both = stored[stored["status"] == "settled"].merge(
        observed, on=["symbol", "session"], suffixes=("", "_now")
    )
    found = []
    for name in ("close", "split", "dividend"):
        moved = both[~np.isclose(both[f"{name}_now"], both[name], rtol=REVISION, atol=0)]
        values = zip(moved["symbol"], moved["session"], moved[name], moved[f"{name}_now"], strict=True)
        found += [
            (symbol, session, "revised", f"{name} {old:.6g} is now {new:.6g}")
            for symbol, session, old, new in values
        ]
    return _findings(found)


def _findings(found: list[tuple[str, pd.Timestamp, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["symbol", "session", "rule", "detail"])
