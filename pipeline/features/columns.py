"""What every feature set is made of: its form, and the columns that several sets share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.typing import Rolling

from pipeline.features.panel import Panel

__all__ = [
    "BRIDGED",
    "RANGE",
    "UNIVERSE",
    "Columns",
    "FeatureSet",
    "close_position",
    "leave_one_out_mean",
    "log_of",
    "rises",
    "rolling",
    "volume_ratio",
]

Columns = dict[str, pd.DataFrame]
"""One frame [session, symbol] per column."""

UNIVERSE = "universe_"
"""The prefix of columns that are computed from the other members."""

RANGE = "close_in_range"
"""The column with the position of the close in the session's range."""

BRIDGED: Final = 5
"""Sessions without a bar that a return may span."""


@dataclass(frozen=True)
class FeatureSet:
    """A named set of columns.

    Attributes:
        columns: Their names, in order.
        last_return: The column with the return of the session itself (rule baselines need it).
        reach: How many earlier sessions a row depends on, at most.
        compute: Takes a panel and the membership (bool [session, symbol]), returns one frame per column, NaN where
            there is not enough history.
        needs: The arrays of a panel without which a row has no features, of open, high, low, close. A volume that is
            not reported costs no row.
        added: The groups of columns added to the set, see [features] add.
        context: The context series that it reads.
    """

    name: str
    columns: tuple[str, ...]
    last_return: str
    reach: int
    compute: Callable[[Panel, NDArray[np.bool_]], Columns]
    needs: tuple[str, ...] = ("close",)
    added: tuple[str, ...] = ()
    context: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name with what was added to it, for example `own + calendar`."""
        return " + ".join((self.name, *self.added))


def leave_one_out_mean(values: pd.DataFrame, belongs: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the mean of `values` over the other members per session, [session, symbol].

    NaN where fewer than half of the other members have a value; 0 where there are no other members. An infinite value
    (the logarithm of the volatility of a price that never changed) counts as none: it would mask every other member.
    """
    others = np.where(belongs, values.to_numpy(), np.nan)
    valid = np.isfinite(others)
    total = np.where(valid, others, 0.0)
    count = valid.sum(axis=1, keepdims=True) - valid
    members = belongs.sum(axis=1, keepdims=True) - belongs
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total.sum(axis=1, keepdims=True) - total) / count
    enough = np.where((count > 0) & (2 * count >= members), mean, np.nan)
    return values * 0.0 + np.where(members > 0, enough, 0.0)


def rolling(values: pd.DataFrame, sessions: int) -> "Rolling[pd.DataFrame]":
    """Return the windows of so many sessions; 80% of them must be known."""
    return values.rolling(sessions, min_periods=-(-4 * sessions // 5))


def rises(step: pd.DataFrame) -> pd.DataFrame:
    """Return 1 where a return is above zero and 0 elsewhere; NaN where it is unknown."""
    return (step > 0).astype(float).where(step.notna())


def log_of(values: pd.DataFrame) -> pd.DataFrame:
    """Return the logarithm; -inf of zero, for example of the volatility of a price that never changed."""
    with np.errstate(divide="ignore"):
        return pd.DataFrame(np.log(values))


def close_position(panel: Panel) -> pd.DataFrame:
    """Return the position of the close between low (-1) and high (1); 0 where low and high are equal."""
    spread = panel.high - panel.low
    middle = (2 * panel.close - panel.high - panel.low) / np.where(spread > 0, spread, np.inf)
    return pd.DataFrame(middle)


def volume_ratio(panel: Panel, sessions: int) -> pd.DataFrame:
    """Return the log of the previous volume over its mean of so many sessions; 0, the average, if none is reported."""
    volume = pd.DataFrame(panel.volume).where(panel.volume > 0).shift()
    ratio = log_of(volume / volume.rolling(sessions, min_periods=sessions // 2).mean())
    return ratio.fillna(0.0).where(panel.has_bar)
