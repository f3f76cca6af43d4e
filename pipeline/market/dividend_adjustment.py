"""Whether closes are adjusted for the dividends listed beside them, as yfinance's are by default.

Two things show it. Shares trade in whole cents: adjusted closes are none, and become some once all later dividends are
added back, by Yahoo's factor 1 - D/C_previous. Where closes are printed in cents, rounded or not, only the falls are
left: closes fall by about the dividend on an ex-date, adjusted ones do not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_EVIDENCE", "DividendEvidence", "find_evidence", "weigh_falls"]

Floats = NDArray[np.float64]

_FEW = 3
"""Closes between two ex-dates that show whether they are in whole cents."""
_MANY = 12
"""Closes that show the level of adjustment where later dividends are not in the file."""
_DEAREST = 2000.0
"""Above it a cent is lost in the single precision of vendors."""
_SINGLE = 5e-7
_SHARP = 0.0025
"""Half a unit of closes that are printed finely enough to tell a whole cent."""
_LEAST_LEVEL = 0.2
_CAP = 2.0
"""The most that one ex-date weighs: a wrong dividend decides nothing."""
_SURE, _UNLIKE = 10.0, 3.0
"""The log-likelihood ratios from which on the falls decide, and are worth a word. Of 100 US stocks with 16 years of
dividends, not adjusted for them, none passed the first and five the second; of 96 with two years, one the second."""


@dataclass(frozen=True)
class DividendEvidence:
    """What the closes of one symbol, or of several, show.

    Attributes:
        cents: Whether they are in whole cents once dividends are added back, or as they are; `printed in cents` where
            that shows nothing; "" where it cannot be told.
        falls: Log-likelihood ratio of the returns on ex-dates: above 0 where closes do not fall by the dividends.
        expected: The size that `falls` is expected to have.
    """

    cents: Literal["adjusted", "unadjusted", "printed in cents", ""] = ""
    falls: float = 0.0
    expected: float = 0.0


NO_EVIDENCE = DividendEvidence()


def weigh_falls(found: Iterable[DividendEvidence]) -> Literal["adjusted", "unadjusted", "unlike", ""]:
    """Return what the falls on all ex-dates show; `unlike` if they rather look adjusted, "" if nothing."""
    each = list(found)
    falls, expected = sum(one.falls for one in each), sum(one.expected for one in each)
    if abs(falls) > max(_SURE, expected / 4):
        return "adjusted" if falls > 0 else "unadjusted"
    return "unlike" if falls > _UNLIKE else ""


def find_evidence(
    close: Floats, dividend: Floats, later_splits: Floats, half_unit: float
) -> DividendEvidence:
    """Return what one symbol's closes show, [bar].

    Args:
        close: Adjusted for splits, in the vendor's units; bars without one are left out.
        dividend: In the same units.
        later_splits: The product of all later split ratios.
        half_unit: Half a unit of the last printed decimal of the closes.
    """
    valid = np.isfinite(close) & (close > 0)
    paid = np.isfinite(dividend) & (dividend > 0)
    # A dividend on a bar without a close took effect on the next bar.
    places: NDArray[np.intp] = (np.cumsum(valid) - valid)[paid]
    close, later = close[valid], later_splits[valid]
    cash: Floats = np.bincount(places, dividend[paid], minlength=len(close) + 1)[: len(close)].astype(float)
    ex = np.flatnonzero(cash > 0)
    ex = ex[ex > 0]
    if len(ex) == 0:
        return NO_EVIDENCE
    falls, expected = _find_falls(close * later, cash / close, ex)
    if half_unit < _SHARP:
        return DividendEvidence(_find_cents(close, cash, later, ex, half_unit), falls, expected)
    return DividendEvidence("printed in cents" if ex[-1] >= _FEW else "", falls, expected)


def _find_falls(prices: Floats, cash: Floats, ex: NDArray[np.intp]) -> tuple[float, float]:
    """Return the log-likelihood ratio of no fall on ex-dates to one by the dividend, and its expected size.

    Args:
        prices: Without the jumps of splits, [bar].
        cash: The dividend as a part of the close on its ex-date, [bar].
        ex: The bars of the ex-dates.
    """
    returns = np.diff(np.log(prices))
    noise = max(float(np.clip(returns, -0.2, 0.2).std()), 1e-3)
    on_ex = returns[ex - 1] / noise
    fall = np.log1p(cash[ex] * np.exp(returns[ex - 1])) / noise
    terms = fall * (2 * on_ex + fall) / 2
    return float(np.clip(terms, -_CAP, _CAP).sum()), float(np.minimum(fall**2 / 2, _CAP).sum())


def _find_cents(
    close: Floats, cash: Floats, later: Floats, ex: NDArray[np.intp], half_unit: float
) -> Literal["adjusted", "unadjusted", ""]:
    """Return which closes before ex-dates are in whole cents: as they are, or with the dividends added back."""
    bounds = [0, *ex.tolist(), len(close)]
    spans = [slice(*span) for span in pairwise(bounds)]
    usable = close * later < _DEAREST

    def compare(last: int, level: float) -> int:
        """Return the number of spans before `last` that look adjusted, less those that do not."""
        factor, score = level, 0
        for number in range(last - 1, -1, -1):
            before = close[ex[number] - 1] / factor
            factor *= before / (before + cash[ex[number]])
            span = np.flatnonzero(usable[spans[number]]) + spans[number].start
            if len(span) >= _FEW:
                as_is, restored = (
                    _in_cents(close[span] * later[span], f, half_unit * later[span]).mean()
                    for f in (level, factor)
                )
                score += int(as_is < 0.5 and restored > 0.9) - int(as_is > 0.9)
        return score

    score = compare(len(ex), 1.0)
    if score == 0:
        # The file ends before the vendor's newest dividends: its newest closes are adjusted for those.
        sizes = [int(usable[span].sum()) for span in spans]
        last = max((at for at, size in enumerate(sizes) if size >= _MANY), default=0)
        if last:
            span = np.flatnonzero(usable[spans[last]])[-_MANY:] + spans[last].start
            prices = close[span] * later[span]
            levels = _find_levels(prices, float((half_unit * later[span]).max()))
            score = next((found for level in levels if (found := compare(last, level))), 0)
    return "adjusted" if score > 0 else "unadjusted" if score < 0 else ""


def _in_cents(prices: Floats, level: float, half_unit: Floats) -> NDArray[np.bool_]:
    """Return whether each price, over the level of its adjustment, is one in cents within its rounding."""
    whole = prices / level
    error = np.abs(whole - np.round(whole, 2))
    return np.asarray(error <= _SINGLE * whole + half_unit / level + 1e-9)


def _find_levels(prices: Floats, half_unit: float) -> Floats:
    """Return the few largest levels of adjustment at which all prices are in whole cents."""
    cents = np.arange(np.floor(prices[0] * 100), np.ceil(prices[0] * 100 / _LEAST_LEVEL) + 1)
    levels = prices[0] / np.maximum(cents, 1.0) * 100
    found = np.ones(len(levels), dtype=bool)
    for price in prices[1:]:
        whole = price * 100 / levels[found]
        error = 2 * (_SINGLE * whole + half_unit * 100 / levels[found])
        found[found] = (np.abs(whole - np.round(whole)) <= error) & (error < 0.1)
    return np.asarray(levels[found][:3])
