"""Prices as dense arrays on the calendar, adjusted forwards: no value changes when later sessions arrive."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.market.corporate_actions import adjusted_close
from pipeline.prices.bar_block import COLUMNS, Block

__all__ = ["Panel", "build_panel"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Bars of a universe; every array is [session, symbol], NaN where there is no bar.

    Attributes:
        sessions: Every session of the calendar from the first bar on: a missing bar is a hole, never a shift.
        open, high, low, close, volume: Split-adjusted, in the shares of each symbol's first bar.
        adj_close: Adjusted for splits and dividends, in the units of the first bar: its ratios are total returns.
        last_close: As traded.
        is_index: bool [symbol]; an index has no volume, so a zero there does not mean untraded.
    """

    sessions: pd.DatetimeIndex
    symbols: list[str]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    adj_close: Floats
    last_close: Floats
    is_index: NDArray[np.bool_]

    @property
    def has_bar(self) -> NDArray[np.bool_]:
        """Whether there is a bar, [session, symbol]."""
        return ~np.isnan(self.close)

    @property
    def is_traded(self) -> NDArray[np.bool_]:
        """Whether the bar came of trades, [session, symbol]: a share with volume 0 did not trade."""
        return np.asarray(self.has_bar & ~((self.volume == 0) & ~self.is_index))


def build_panel(block: Block) -> Panel:
    """Adjust bars as traded; their first session is the panel's."""
    wide = {name: np.asarray(block[name], np.float64) for name in COLUMNS}
    split = np.nan_to_num(wide["split"], nan=1.0)
    dividend = np.nan_to_num(wide["dividend"], nan=0.0)
    shares = np.cumprod(split, axis=0)
    return Panel(
        sessions=block.sessions,
        symbols=block.symbols,
        **{name: wide[name] * shares for name in ("open", "high", "low", "close")},
        volume=wide["volume"] / shares,
        adj_close=adjusted_close(wide["close"], dividend, split),
        last_close=wide["close"],
        is_index=np.array([symbol.startswith("^") for symbol in block.symbols], dtype=bool),
    )
