"""Prices at which a rule could have traded, and stale opens at which it could not.

Some sources report the previous close as an index's open. No order could be filled at such a stale open, and a rule
that enters there would earn the overnight return for free. Where the open is missing, nothing can be filled either.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.panel import Panel

__all__ = ["MOST_STALE", "STALE_SESSIONS", "Fills", "measure_stale", "read_fills"]

Floats = NDArray[np.float64]

MOST_STALE: Final = 0.1
"""A symbol is traded in a session if at most this share of its opens of the year before is stale."""

STALE_SESSIONS: Final = 252
"""Sessions before each one whose opens decide: a year."""

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Fills:
    """Prices of a universe; every array is [session, symbol], NaN where nothing traded.

    Attributes:
        sessions, symbols: The labels of the axes, with every session of the calendar.
        open, close: Prices of the session, adjusted for splits.
        previous_close: Close of the last bar before the session, on the same split adjustment.
        total_return: Return from the previous close to this close, splits and dividends included.
    """

    sessions: pd.DatetimeIndex
    symbols: list[str]
    open: Floats
    close: Floats
    previous_close: Floats
    total_return: Floats

    @property
    def intraday_return(self) -> Floats:
        """Return from open to close; splits and dividends take effect before the open and do not matter."""
        return self.close / self.open - 1


def read_fills(panel: Panel) -> Fills:
    """Return the prices of a panel, NaN where nothing traded."""
    traded = np.where(panel.is_traded, 1.0, np.nan)
    return Fills(
        sessions=panel.sessions,
        symbols=panel.symbols,
        open=panel.open * traded,
        close=panel.close * traded,
        previous_close=_previous(panel.close) * traded,
        total_return=(panel.adj_close / _previous(panel.adj_close) - 1) * traded,
    )


def measure_stale(fills: Fills) -> Floats:
    """Return the share of stale opens in the year before each session.

    An open is stale that repeats the previous close, or is missing although the session traded. Only the 252 sessions
    before count, so a source that has fixed its opens is traded again a year later, and one that
    has lost them is left out from then on: many sources have opens of their own only since some year. There is no
    look-ahead: later sessions change nothing.

    Returns:
        [session, symbol], 0 without an earlier session.
    """
    comparable = np.isfinite(fills.close) & np.isfinite(fills.previous_close)
    distance = np.abs(fills.open - fills.previous_close)
    is_stale = np.isnan(fills.open) | (distance <= _ROUNDING * np.abs(fills.previous_close))
    stale, known = (_sum_before(flags, STALE_SESSIONS) for flags in (comparable & is_stale, comparable))
    return np.asarray(stale / np.maximum(known, 1))


def _previous(prices: Floats) -> Floats:
    return pd.DataFrame(prices).ffill().shift().to_numpy()


def _sum_before(flags: NDArray[np.bool_], reach: int) -> NDArray[np.integer]:
    """Return the number of true flags [session, symbol] among the `reach` sessions before each one."""
    until = np.cumsum(flags, axis=0)
    before = np.concatenate([np.zeros_like(until[:1]), until])[:-1] if len(until) else until
    gone = np.concatenate([np.zeros_like(before[:reach]), before])[: len(before)]
    return np.asarray(before - gone)
