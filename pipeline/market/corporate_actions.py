"""Splits and dividends: from a vendor's adjusted bars to bars as traded, and to total returns.

Conventions: `split[t]` is the ratio that took effect at the open of t (2.0 for two-for-one), `dividend[t]` the cash per
share that went ex on t. The adjusted close falls by the factor 1 - D[t]/C[t-1] before an ex-date, as Yahoo
defines it, so the total return of t is C[t] / (C[t-1]/S[t] - D[t]).
"""

from fractions import Fraction
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.market.dividend_adjustment import NO_EVIDENCE, DividendEvidence, find_evidence

__all__ = [
    "Adjustment",
    "adjusted_close",
    "as_traded",
    "carry_actions",
    "find_adjustment",
    "find_dividend_evidence",
    "half_unit",
    "has_action",
    "jumps_at_splits",
    "later_splits",
    "total_return",
]

Adjustment = Literal["raw", "split", "split+dividend"]
"""How a vendor adjusts open, high, low and close."""

Floats = NDArray[np.float64]

_NOISE = 2e-6  # vendors compute in single precision: a smaller step of the factor is noise, not a dividend
_ACTIONS = ["split", "dividend"]
_PRICES = ["open", "high", "low", "close"]


def later_splits(split: Floats) -> Floats:
    """Return the product of all later split ratios, for each session; split is [session, ...]."""
    product = np.cumprod(split[::-1], axis=0)[::-1]
    return np.concatenate([product[1:], np.ones_like(product[:1])])


def total_return(close: Floats, previous: Floats, dividend: Floats, split: Floats) -> Floats:
    """Return C / (C_previous/S - D), as traded; NaN where the dividend is not below the price."""
    base = previous / split - dividend
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(base > 0, close / base, np.nan)


def adjusted_close(close: Floats, dividend: Floats, split: Floats) -> Floats:
    """Return the total-return close [session, symbol], equal to `close` on each symbol's first bar.

    It is chained forwards, so that a later session never changes an earlier value. Sessions without a bar (NaN) stay
    NaN, and the return of the next bar spans the gap.
    """
    previous = pd.DataFrame(close).ffill().shift().to_numpy()
    growth = total_return(close, previous, dividend, split)
    level = np.cumprod(np.where(np.isnan(growth), 1.0, growth), axis=0)
    first = pd.DataFrame(close).bfill().to_numpy()[0]
    return np.where(np.isnan(close), np.nan, first * level)


def as_traded(bars: pd.DataFrame, adjustment: Adjustment, *, lists_actions: bool = False) -> pd.DataFrame:
    """Return the bars of one symbol as they traded.

    Args:
        bars: Vendor bars (sources.BAR_COLUMNS), ascending, up to the vendor's newest session: the adjustment for a
            later split that is missing here could not be undone.
        adjustment: How the vendor adjusts open, high, low and close. With `split+dividend` the traded prices cannot be
            restored: the bars stay as they are, and their returns are total returns already.
        lists_actions: Whether the vendor lists splits and dividends, so that none listed means none. Otherwise they
            are inferred from the steps of the adjusted closes.
    """
    if any(np.isnan(bars[name].to_numpy()).any() for name in _ACTIONS):
        bars = bars.assign(split=bars["split"].fillna(1.0), dividend=bars["dividend"].fillna(0.0))
    if adjustment == "split+dividend":
        return bars.assign(dividend=0.0, split=1.0)
    if not lists_actions and not np.isnan(bars["adj_close"].to_numpy()).all() and _has_no_actions(bars):
        bars = _implied_actions(bars, adjustment)
    if adjustment == "raw" or (bars["split"].to_numpy() == 1.0).all():
        return bars
    factor = later_splits(bars["split"].to_numpy())
    return bars.assign(
        **{name: bars[name] * factor for name in [*_PRICES, "dividend"]}, volume=bars["volume"] / factor
    )


def find_adjustment(bars: pd.DataFrame) -> Adjustment:
    """Infer how one symbol's closes are adjusted, from its splits, its dividends or its adjusted closes.

    Closes that are prices in whole cents only after the dividends are added back are adjusted for dividends too.
    Closes that jump by the split ratio are raw; closes that do not are split-adjusted. With neither splits nor
    adjusted closes the data cannot tell: `split`, the usual kind, is assumed.
    """
    if find_dividend_evidence(bars).cents == "adjusted":
        return "split+dividend"
    return "raw" if jumps_at_splits(bars) else "split"


def jumps_at_splits(bars: pd.DataFrame) -> bool:
    """Whether one symbol's closes jump by the ratios of its splits, listed or seen in steps of the adjusted closes."""
    steps = _factor_steps(bars) if _has_no_actions(bars) else bars["split"].fillna(1.0).to_numpy()
    at = np.flatnonzero([_is_split(step) for step in steps])
    known = bars["close"].where(np.isfinite(bars["close"]) & (bars["close"] > 0))
    before, after = known.ffill().shift().to_numpy()[at], known.bfill().to_numpy()[at]
    is_known = np.isfinite(before) & np.isfinite(after)
    if not is_known.any():
        return False
    jumps = np.log(before[is_known] / after[is_known]) / np.log(steps[at][is_known])
    return bool(np.median(jumps) > 0.5)


def find_dividend_evidence(bars: pd.DataFrame) -> DividendEvidence:
    """Return whether the closes of one symbol show an adjustment for the dividends beside them.

    Nothing is looked for where there are none, or an adjusted close beside them.
    """
    dividend = bars["dividend"].to_numpy()
    if not (dividend > 0).any() or bars["adj_close"].notna().any():
        return NO_EVIDENCE
    close, later = bars["close"].to_numpy(), later_splits(bars["split"].fillna(1.0).to_numpy())
    return find_evidence(close, dividend, later, half_unit(close))


def has_action(bars: pd.DataFrame) -> "pd.Series[bool]":
    """Return bool [bar]: whether a valid split or dividend took effect."""
    split, dividend = _valid_actions(bars)
    return (split != 1.0) | (dividend != 0.0)


def carry_actions(bars: pd.DataFrame, kept: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the kept bars, each with the actions of the dropped bars directly before it.

    A split or dividend took effect whether or not the bar of its session is usable. Split ratios are multiplied; a
    dividend is divided by the ratios after it, which converts it to the units of the bar that carries it.

    Args:
        bars: symbol, split and dividend as traded, ascending in session within each symbol.
        kept: bool [bar]: the bars to keep; actions after a symbol's last kept bar are not carried.
    """
    if kept.all():
        return bars
    acted = has_action(bars).to_numpy() & ~kept
    if not acted.any():
        return bars[kept]
    split, dividend = _valid_actions(bars)
    run = [bars["symbol"], pd.Series(np.cumsum(kept) - kept, index=bars.index)]
    ratio = split.groupby(run).transform("prod")
    carried = (dividend * split.groupby(run).cumprod() / ratio).groupby(run).transform("sum")
    moved = pd.Series(acted, index=bars.index).groupby(run).transform("any")
    bars = bars.assign(
        split=bars["split"].where(~moved, ratio), dividend=bars["dividend"].where(~moved, carried)
    )
    return bars[kept]


def _valid_actions(bars: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    split, dividend = (bars[name].where(bars[name].gt(0) & np.isfinite(bars[name])) for name in _ACTIONS)
    return split.fillna(1.0), dividend.fillna(0.0)


def _has_no_actions(bars: pd.DataFrame) -> bool:
    split, dividend = (bars[name].to_numpy() for name in _ACTIONS)
    return bool((np.nan_to_num(split, nan=1.0) == 1.0).all() and (np.nan_to_num(dividend) == 0.0).all())


def _factor_steps(bars: pd.DataFrame) -> Floats:
    """Return the steps of adjusted over plain close, [bar]; exactly 1 where rounding explains them."""
    factor = (bars["adj_close"] / bars["close"]).to_numpy()
    steps = np.ones(len(bars))
    with np.errstate(invalid="ignore", divide="ignore"):
        steps[1:] = factor[1:] / factor[:-1]
    steps = np.where(np.isfinite(steps) & (steps > 0), steps, 1.0)
    close, adjusted = bars["close"].to_numpy(), bars["adj_close"].to_numpy()
    unit = half_unit(adjusted)
    # With finer adjusted closes a close in whole cents is exact, not rounded: shares trade in cents.
    tolerance = _rounding(adjusted, unit) + _rounding(close, min(unit, half_unit(close)))
    tolerance[1:] += tolerance[:-1].copy()
    return np.where(np.abs(np.log(steps)) <= tolerance + _NOISE, 1.0, steps)


def half_unit(prices: Floats) -> float:
    """Return half a unit of the last printed decimal of the prices; 0 beyond six decimals."""
    known = prices[np.isfinite(prices)]
    # The tolerance lets prices that were once single precision count as printed with few decimals.
    exact = (d for d in range(7) if np.allclose(known, np.round(known, d), rtol=1e-7, atol=1e-9))
    return next((0.5 * 10.0**-decimals for decimals in exact), 0.0)


def _rounding(prices: Floats, half_unit: float) -> Floats:
    """Return the largest error of each printed price's logarithm, [bar]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(-np.log1p(-half_unit / np.abs(prices)), posinf=0.0)


def _is_split(step: float) -> bool:
    """Whether a step of adjusted over raw close is a common split ratio rather than a dividend."""
    if 0.85 < step < 1.2:
        return False
    ratio = Fraction(float(step)).limit_denominator(100)
    return (
        abs(step / float(ratio) - 1) < 0.02 and min(ratio.numerator, ratio.denominator) <= 4
        if ratio
        else False
    )


def _implied_actions(bars: pd.DataFrame, adjustment: Adjustment) -> pd.DataFrame:
    """Return bars with the dividends (and, where closes are raw, the splits) that adj_close implies."""
    steps = _factor_steps(bars)
    is_split = np.array([adjustment == "raw" and _is_split(step) for step in steps])
    previous = bars["close"].shift().to_numpy()
    dividend = np.where(is_split | (steps <= 1), 0.0, previous * (1 - 1 / steps))
    return bars.assign(split=np.where(is_split, steps, 1.0), dividend=np.nan_to_num(dividend))
