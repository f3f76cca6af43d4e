"""Prices as dense arrays on the calendar, adjusted forwards: later sessions never change an earlier value."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.context import Context
from pipeline.market.corporate_actions import adjusted_close
from pipeline.prices.bar_block import COLUMNS, Block

__all__ = ["Panel", "build_panel"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Bars of a universe; every array is [session, symbol], NaN where there is no bar.

    Attributes:
        sessions: Every session of the calendar from the first bar on; a missing bar is NaN, rows are never shifted.
        open, high, low, close, volume: Split-adjusted, in the shares of each symbol's first bar.
        adj_close: Adjusted for splits and dividends, in the units of the first bar: its ratios are total returns.
        last_close: As traded.
        is_index: bool [symbol]; an index has no volume, so a volume of 0 does not mean that it did not trade.
        context: The context series, where a feature set reads some.
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
    context: Context | None = None

    @property
    def has_bar(self) -> NDArray[np.bool_]:
        """Whether there is a bar, [session, symbol]."""
        return ~np.isnan(self.close)

    @property
    def is_traded(self) -> NDArray[np.bool_]:
        """Whether the bar has trades, [session, symbol]: a share with volume 0 did not trade."""
        return np.asarray(self.has_bar & ~((self.volume == 0) & ~self.is_index))


def build_panel(block: Block, context: Context | None = None) -> Panel:
    """Build the panel of a block by adjusting its bars for splits and dividends, with context series beside it."""
    columns = {name: np.asarray(block[name], np.float64) for name in COLUMNS}
    split = np.nan_to_num(columns["split"], nan=1.0)
    dividend = np.nan_to_num(columns["dividend"], nan=0.0)
    shares = np.cumprod(split, axis=0)
    return Panel(
        sessions=block.sessions,
        symbols=block.symbols,
        **{name: columns[name] * shares for name in ("open", "high", "low", "close")},
        volume=columns["volume"] / shares,
        adj_close=adjusted_close(columns["close"], dividend, split),
        last_close=columns["close"].copy(),  # a part of the block would keep the whole of it in memory
        is_index=np.array([symbol.startswith("^") for symbol in block.symbols], dtype=bool),
        context=context,
    )
