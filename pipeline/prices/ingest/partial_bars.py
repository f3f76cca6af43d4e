"""Bars without an open or a range: an open that cannot be one is left out, and what is missing stays missing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.formatting import count

__all__ = ["Mended", "mend_bars"]

_OUTSIDE_RANGE = 0.05
"""How far an open or close may lie outside low..high, as a share of the price.

Low and high are often those of continuous trading, open and close those of the auctions (8% of London's rows), or the
four come from different quotes (5% of currencies'). London extends a closing auction whose price differs from the last
trades by more than 3% (FTSE 100) or 5% (all others): London Stock Exchange, price monitoring extensions, 2001.
"""

_OPTIONAL = ("open", "high", "low")
_KEY = ["symbol", "session"]
_FINDING = [*_KEY, "rule", "detail"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mended:
    """The bars that are kept although something is missing or wrong; each with symbol and session.

    Attributes:
        bad_opens: The bars as they were, whose opens are left out.
        widened: `outside`, by how much open or close lay outside low..high.
        partial: `missing`, the prices that other bars of the symbol have.
    """

    bad_opens: pd.DataFrame
    widened: pd.DataFrame
    partial: pd.DataFrame

    def findings(self, select: Callable[[pd.DataFrame], pd.DataFrame]) -> list[pd.DataFrame]:
        """Return one finding per symbol and kind, of the bars that `select` leaves."""
        return [
            _describe_bad_opens(select(self.bad_opens)),
            _describe_widened(select(self.widened)),
            _describe_partial(select(self.partial)),
        ]


def mend_bars(rows: pd.DataFrame) -> tuple[pd.DataFrame, Mended]:
    """Return the rows without opens that cannot be one, and with ranges that hold open and close.

    Args:
        rows: symbol, session, open, high, low, close of bars, NaN where a price is missing.
    """
    partial = _find_partial(rows)
    rows, bad_opens = _drop_bad_opens(rows)
    rows, widened = _widen_ranges(rows)
    return rows, Mended(bad_opens, widened, partial)


def _drop_bad_opens(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows without the opens that cannot be one, and those rows as they were.

    Such an open is not above zero, not finite, or outside low..high by more than 5% of the price, in a bar that is
    good otherwise. Many sources write 0, or an old price, where they do not know the open.
    """
    first, high, low, last = _prices(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        is_good = (
            np.isfinite(last)
            & (last > 0)
            & _is_range(high, low)
            & ~(_outside(last, high, low) > _OUTSIDE_RANGE)
        )
        is_open = np.isfinite(first) & (first > 0) & ~(_outside(first, high, low) > _OUTSIDE_RANGE)
    is_bad = is_good & ~is_open & ~np.isnan(first)
    if not is_bad.any():
        return rows, rows.head(0)
    return rows.assign(open=np.where(is_bad, np.nan, first)), rows[is_bad]


def _widen_ranges(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows with ranges that hold open and close, and symbol, session and `outside` of those that changed.

    Rows that lie outside by more than 5% of the price, and rows whose low lies above high, stay as they are; so does a
    missing high or low.
    """
    first, high, low, last = _prices(rows)
    above, below = np.fmax(first, last), np.fmin(first, last)
    with np.errstate(invalid="ignore", divide="ignore"):
        is_range = _is_range(high, low) & (below > 0)
        outside = np.where(is_range, np.fmax(above / high - 1, 1 - below / low), np.nan)
    is_widened = (outside > 0) & (outside <= _OUTSIDE_RANGE)
    if not is_widened.any():
        return rows, rows.head(0)[_KEY].assign(outside=0.0)
    widened = rows.assign(
        high=np.where(is_widened, np.maximum(high, above), high),
        low=np.where(is_widened, np.minimum(low, below), low),
    )
    return widened, rows.loc[is_widened, _KEY].assign(outside=outside[is_widened])


def _find_partial(rows: pd.DataFrame) -> pd.DataFrame:
    """Return symbol, session and `missing` of the bars without a price that other bars of the symbol have."""
    missing = {name: np.isnan(rows[name].to_numpy(float)) for name in _OPTIONAL}
    if not any(lacks.any() for lacks in missing.values()):
        return rows.head(0)[_KEY].assign(missing="")
    code, symbols = pd.factorize(rows["symbol"])
    bars = np.bincount(code, minlength=len(symbols))
    named = np.full(len(rows), "", dtype=object)
    for name, lacks in missing.items():
        is_partial = lacks & (np.bincount(code[lacks], minlength=len(symbols)) < bars)[code]
        named[is_partial] = np.where(named[is_partial] == "", name, named[is_partial] + f", {name}")
    is_partial = named != ""
    found: pd.DataFrame = rows.loc[is_partial, _KEY].assign(missing=named[is_partial])
    return found


def _describe_bad_opens(bars: pd.DataFrame) -> pd.DataFrame:
    """Return a finding per symbol of bars that `_drop_bad_opens` changed."""
    number = bars.groupby("symbol", sort=False)["session"].transform("count").tolist()
    newest = ~bars.duplicated("symbol", keep="last").to_numpy()
    found = [
        (
            row.symbol,
            row.session,
            "the open is 0, or outside low..high",
            f"{count(many, 'bar')}, on the newest open {row.open:.6g}, high {row.high:.6g}, low {row.low:.6g}, close "
            f"{row.close:.6g}: kept without the open",
        )
        for row, many, is_newest in zip(bars.itertuples(), number, newest, strict=True)
        if is_newest
    ]
    return pd.DataFrame(found, columns=_FINDING)


def _describe_widened(bars: pd.DataFrame) -> pd.DataFrame:
    """Return a finding per symbol of bars that `_widen_ranges` changed."""
    found = bars.groupby("symbol", sort=False).agg(
        session=("session", "max"), bars=("session", "count"), most=("outside", "max")
    )
    detail = [
        f"{count(bars, 'bar')}, by {most:.2%} at most: kept, with low and high widened to hold open and close"
        for bars, most in zip(found["bars"].tolist(), found["most"].tolist(), strict=True)
    ]
    return found.reset_index().assign(rule="open or close lies outside low..high", detail=detail)[_FINDING]


def _describe_partial(bars: pd.DataFrame) -> pd.DataFrame:
    """Return a finding per symbol and kind of bars that `_find_partial` found."""
    found = bars.groupby(["symbol", "missing"], sort=False)["session"].agg(["max", "count"]).reset_index()
    rows = [
        (symbol, newest, f"{missing}: not given", f"{count(bars, 'bar')}: kept, with {missing} missing")
        for symbol, missing, newest, bars in found.itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=_FINDING)


def _prices(rows: pd.DataFrame) -> tuple[Floats, Floats, Floats, Floats]:
    first, high, low, last = (rows[name].to_numpy(float) for name in ("open", "high", "low", "close"))
    return first, high, low, last


def _is_range(high: Floats, low: Floats) -> NDArray[np.bool_]:
    """Return whether high and low can be those of a bar; a missing one can."""
    return ~((high <= 0) | (low <= 0) | (low > high) | np.isinf(high) | np.isinf(low))


def _outside(price: Floats, high: Floats, low: Floats) -> Floats:
    """Return how far a price lies outside low..high, as a share of the bound; not above 0 inside, NaN without both."""
    return np.fmax(price / high - 1, 1 - price / low)
