"""A made-up market on real sessions of New York: prices in cents, as exchanges print them."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from pipeline.market.calendar import calendar

__all__ = ["DAYS", "history", "market", "names"]

DAYS = calendar("XNYS", date(1997, 1, 1), datetime(2021, 6, 1, tzinfo=UTC))


def history(last: int, sessions: int) -> pd.DatetimeIndex:
    """Return so many sessions, up to the one in the place `last`."""
    return DAYS.sessions[last - sessions + 1 : last + 1]


def names(symbols: int) -> list[str]:
    """Return the symbols of a market."""
    return [f"S{number:04d}" for number in range(symbols)]


def market(symbols: int, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """Return bars of a market and its shares: date, symbol, open, high, low, close, volume, by symbol and date."""
    rng = np.random.default_rng(0)
    shape = (len(sessions), symbols)
    steps = rng.normal(0.0003, 0.008, (len(sessions), 1)) + rng.normal(0, 0.012, shape)
    close = np.maximum(50 * np.exp(np.cumsum(steps, axis=0)), 2).round(2)
    opening = (close * np.exp(rng.normal(0, 0.003, shape))).round(2)
    spread = 1.001 + np.abs(rng.normal(0, 0.006, (2, *shape)))
    wide = {
        "open": opening,
        "high": (np.maximum(opening, close) * spread[0]).round(2),
        "low": (np.minimum(opening, close) / spread[1]).round(2),
        "close": close,
        "volume": rng.integers(10**5, 10**7, shape).astype(float),
    }
    columns = {name: values.T.reshape(-1) for name, values in wide.items()}
    listed = np.repeat(names(symbols), len(sessions))
    return pd.DataFrame({"date": np.tile(sessions, symbols), "symbol": listed, **columns})
