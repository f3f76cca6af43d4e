"""Prices at which a rule could have traded, and which opens nobody can have had.

Some sources print the close of the day before as an index's open. At such a price nothing was ever for sale, so a
rule that enters there would earn the night's move for nothing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.panel import Panel

__all__ = ["MOST_STALE", "Fills", "measure_stale", "read_fills"]

Floats = NDArray[np.float64]

MOST_STALE: Final = 0.1
"""The largest share of opens that may repeat the close before, for a symbol to be traded."""

_YEAR: Final = 252
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Fills:
    """Prices of a universe; every array is [session, symbol], NaN where nothing traded.

    Attributes:
        sessions, symbols: The names of the axes; every session of the calendar is there.
        open, close: Of the session, adjusted for splits.
        previous_close: Of the last bar before it, in the same shares.
        total_return: From the close of the last bar before to this close, splits and dividends included.
    """

    sessions: pd.DatetimeIndex
    symbols: list[str]
    open: Floats
    close: Floats
    previous_close: Floats
    total_return: Floats

    @property
    def intraday_return(self) -> Floats:
        """From open to close; splits and dividends take effect before the open and play no part."""
        return self.close / self.open - 1


def read_fills(panel: Panel) -> Fills:
    """Return the prices of a panel at which something traded."""
    traded = np.where(panel.is_traded, 1.0, np.nan)
    return Fills(
        sessions=panel.sessions,
        symbols=panel.symbols,
        open=panel.open * traded,
        close=panel.close * traded,
        previous_close=_last_before(panel.close) * traded,
        total_return=(panel.adj_close / _last_before(panel.adj_close) - 1) * traded,
    )


def measure_stale(fills: Fills) -> Floats:
    """Return the share of opens that repeat the close before, as known before each session [session, symbol].

    It is the larger one of all days known and of the newest year of them, so that neither a source that has fixed its
    opens lately nor one that has lost them passes; 0 where no day is known yet. Later sessions change nothing.
    """
    comparable = np.isfinite(fills.open) & np.isfinite(fills.previous_close)
    distance = np.abs(fills.open - fills.previous_close)
    repeats = comparable & (distance <= _ROUNDING * np.abs(fills.previous_close))
    return np.maximum(
        _share_before(repeats, comparable, len(repeats)), _share_before(repeats, comparable, _YEAR)
    )


def _last_before(prices: Floats) -> Floats:
    return pd.DataFrame(prices).ffill().shift().to_numpy()


def _share_before(repeats: NDArray[np.bool_], comparable: NDArray[np.bool_], reach: int) -> Floats:
    """Return repeats over comparable [session, symbol] among the `reach` sessions before each one."""
    found, known = (_sum_before(flags, reach) for flags in (repeats, comparable))
    return np.asarray(found / np.maximum(known, 1))


def _sum_before(flags: NDArray[np.bool_], reach: int) -> NDArray[np.integer]:
    until = np.cumsum(flags, axis=0)
    before = np.concatenate([np.zeros_like(until[:1]), until])[:-1] if len(until) else until
    gone = np.concatenate([np.zeros_like(before[:reach]), before])[: len(before)]
    return np.asarray(before - gone)
