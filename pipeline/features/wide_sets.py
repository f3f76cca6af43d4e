"""Larger sets of columns: the lagged returns of a paper, and some seventy of many kinds, ranks among them.

Both are causal and scale-free, as all sets are. docs/results.md says what they brought.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import (
    BRIDGED,
    Columns,
    FeatureSet,
    close_position,
    log_of,
    rises,
    rolling,
    volume_ratio,
)
from pipeline.features.panel import Panel
from pipeline.features.ranks import rank_members

__all__ = ["RETURNS31", "WIDE"]

_LAGS: Final = (*range(1, 21), *range(40, 241, 20))

_SCALED: Final = (2, 3, 5, 10, 21, 42, 63, 126, 252)
_WINDOWS: Final = (5, 10, 21, 63, 126)
_RANKED: Final = ("return_1", "return_5", "return_21", "return_63", "volatility", "close_in_range", "volume")


def _returns31(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    """Return the simple returns over the last m sessions: Krauss, Do and Huck (2017), section 4.2."""
    close = pd.DataFrame(panel.adj_close)
    known = close.ffill(limit=BRIDGED)
    return {f"return_{lag}": close / known.shift(lag) - 1 for lag in _LAGS}


def _wide(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    log = log_of(pd.DataFrame(panel.adj_close))
    known = log.ffill(limit=BRIDGED)
    step = log - known.shift(1)
    deviation = {k: rolling(step, k).std() for k in _WINDOWS}
    scale = deviation[63]
    change = {k: log - known.shift(k) for k in (1, *_SCALED)}
    position, (night, day) = close_position(panel), _parts(panel)
    columns = {"log_return_1": step} | {f"scaled_return_lag_{k}": (step / scale).shift(k) for k in range(10)}
    columns |= {f"scaled_return_{k}": change[k] / (scale * np.sqrt(k)) for k in _SCALED}
    columns |= {f"volatility_{k}": log_of(deviation[k]) for k in _WINDOWS}
    columns |= {f"volatility_ratio_{k}": log_of(deviation[k] / deviation[126]) for k in _WINDOWS[:-1]}
    columns |= {f"distance_from_mean_{k}": (log - rolling(log, k).mean()) / scale for k in _WINDOWS}
    columns |= {f"below_high_{k}": log - rolling(log, k).max() for k in (21, 63, 252)}
    columns |= {f"above_low_{k}": log - rolling(log, k).min() for k in (21, 63, 252)}
    columns |= _ranges(panel, deviation[21])
    columns |= {"close_in_range": position, "close_in_range_mean_5": rolling(position, 5).mean()}
    columns |= {f"overnight_{k}": (rolling(night, k).mean() / scale).fillna(0.0) for k in (1, 5, 21)}
    columns |= {f"intraday_{k}": (rolling(day, k).mean() / scale).fillna(0.0) for k in (1, 5, 21)}
    columns |= {f"up_share_{k}": rolling(rises(step), k).mean() for k in (5, 10, 21)}
    columns |= {f"volume_ratio_lagged_{k}": volume_ratio(panel, k) for k in (5, 21, 63)}
    columns |= {
        "skewness_21": rolling(step, 21).skew(),
        "largest_rise_21": rolling(step, 21).max() / scale,
        "largest_fall_21": rolling(step, 21).min() / scale,
        "autocorrelation_21": rolling(step * step.shift(1), 21).mean() / deviation[21] ** 2,
    }
    ranked = (*(change[k] for k in (1, 5, 21, 63)), deviation[21], position, volume_ratio(panel, 21))
    return columns | {
        f"universe_rank_{name}": rank_members(values, belongs)
        for name, values in zip(_RANKED, ranked, strict=True)
    }


def _parts(panel: Panel) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the logs of the last night's and the day's return; NaN where the open is unknown or repeats the close."""
    first, close = pd.DataFrame(panel.open), pd.DataFrame(panel.close)
    before = close.ffill(limit=BRIDGED).shift(1)
    first = first.where(first != before)
    total = pd.DataFrame(panel.adj_close)
    day = log_of(close / first)
    night = log_of(total / total.ffill(limit=BRIDGED).shift(1)) - day
    return night, day


def _ranges(panel: Panel, deviation: pd.DataFrame) -> Columns:
    spread = log_of(pd.DataFrame(panel.high) / pd.DataFrame(panel.low))
    # Parkinson (1980): the variance of a session from its range.
    parkinson = np.sqrt(rolling(spread**2, 21).mean() / (4 * np.log(2)))
    return {
        "range": spread,
        "range_mean_5": rolling(spread, 5).mean(),
        "range_mean_21": rolling(spread, 21).mean(),
        "range_volatility_ratio": log_of(parkinson / deviation),
    }


RETURNS31: Final = FeatureSet(
    "returns31",
    tuple(f"return_{lag}" for lag in _LAGS),
    "return_1",
    max(_LAGS) + BRIDGED,
    _returns31,
)

_WIDE_COLUMNS: Final = (
    "log_return_1",
    *(f"scaled_return_lag_{k}" for k in range(10)),
    *(f"scaled_return_{k}" for k in _SCALED),
    *(f"volatility_{k}" for k in _WINDOWS),
    *(f"volatility_ratio_{k}" for k in _WINDOWS[:-1]),
    *(f"distance_from_mean_{k}" for k in _WINDOWS),
    *(f"below_high_{k}" for k in (21, 63, 252)),
    *(f"above_low_{k}" for k in (21, 63, 252)),
    *("range", "range_mean_5", "range_mean_21", "range_volatility_ratio"),
    *("close_in_range", "close_in_range_mean_5"),
    *(f"overnight_{k}" for k in (1, 5, 21)),
    *(f"intraday_{k}" for k in (1, 5, 21)),
    *(f"up_share_{k}" for k in (5, 10, 21)),
    *(f"volume_ratio_lagged_{k}" for k in (5, 21, 63)),
    *("skewness_21", "largest_rise_21", "largest_fall_21", "autocorrelation_21"),
    *(f"universe_rank_{name}" for name in _RANKED),
)

WIDE: Final = FeatureSet(
    "wide", _WIDE_COLUMNS, "log_return_1", 252 + BRIDGED, _wide, ("high", "low", "close")
)
