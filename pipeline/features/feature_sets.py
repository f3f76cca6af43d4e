"""The network's inputs per session: named sets of causal, scale-free columns.

A feature at session t is computable at the close of t. Volume is always lagged by one session, because vendors
revise it overnight. No column uses the open: some vendors print the previous close there (^GSPC of the sample does
on 40% of sessions), except in `alstm11`, which follows its paper.

In these sets one missing bar masks two rows of a symbol: its own, and the next one, whose one-session return is
unknown. Rolling windows need 80% of their sessions (51 of 63), and a longer return starts from the last close known at
or before its first session, at most five sessions earlier. A new listing needs 63 sessions, for its longest return.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.typing import Rolling

from pipeline.features.panel import Panel
from pipeline.outputs import Output

__all__ = [
    "FEATURE_SETS",
    "RANGE",
    "UNIVERSE",
    "Columns",
    "FeatureSet",
    "default_features",
    "leave_one_out_mean",
]

Floats = NDArray[np.float64]
Columns = dict[str, pd.DataFrame]
"""One frame [session, symbol] per column."""

UNIVERSE = "universe_"
"""The prefix of columns that are computed from the other members."""

RANGE = "close_in_range"
"""The column with the position of the close in the session's range."""

_BRIDGED = 5  # sessions without a bar that a return may span


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
    """

    name: str
    columns: tuple[str, ...]
    last_return: str
    reach: int
    compute: Callable[[Panel, NDArray[np.bool_]], Columns]
    needs: tuple[str, ...] = ("close",)


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


def _default(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    return {
        **_closes(panel, belongs),
        "range": _log(pd.DataFrame(panel.high) / pd.DataFrame(panel.low)),
        "close_in_range": _position_in_range(panel),
        "volume_ratio_lagged": _volume_ratio(panel),
    }


def _relative(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    columns = _default(panel, belongs)
    return columns | {name: columns[own] - columns[others] for name, (own, others) in _EXCESS.items()}


def _closes(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    log = _log(pd.DataFrame(panel.adj_close))
    step, known = log.diff(), log.ffill(limit=_BRIDGED)
    change = {k: log - known.shift(k) for k in (1, 5, 21, 63)}
    deviation = {k: _rolling(change[1], k).std() for k in (5, 21, 63)}
    return {
        "log_return_1": step,
        **{f"log_return_{k}": change[k] for k in (5, 21, 63)},
        "volatility_21": _log(deviation[21]),
        "volatility_ratio": _log(deviation[5] / deviation[63]),
        "distance_from_mean_21": (log - _rolling(log, 21).mean()) / deviation[21],
        "drawdown_63": log - _rolling(log, 63).max(),
        "up_share_10": _rolling(_is_rise(change[1]), 10).mean(),
        "universe_return_1": leave_one_out_mean(step, belongs),
        "universe_return_5": leave_one_out_mean(change[5], belongs),
        "universe_up_share": leave_one_out_mean(_is_rise(step), belongs),
        "universe_volatility_21": leave_one_out_mean(_log(deviation[21]), belongs),
    }


def _rolling(values: pd.DataFrame, sessions: int) -> "Rolling[pd.DataFrame]":
    return values.rolling(sessions, min_periods=-(-4 * sessions // 5))


def _is_rise(step: pd.DataFrame) -> pd.DataFrame:
    return (step > 0).astype(float).where(step.notna())


def _log(values: pd.DataFrame) -> pd.DataFrame:
    with np.errstate(divide="ignore"):  # the logarithm of zero volatility is -inf, which is masked
        return pd.DataFrame(np.log(values))


def _position_in_range(panel: Panel) -> pd.DataFrame:
    """Return the position of the close between low (-1) and high (1); 0 where low and high are equal."""
    spread = panel.high - panel.low
    middle = (2 * panel.close - panel.high - panel.low) / np.where(spread > 0, spread, np.inf)
    return pd.DataFrame(middle)


def _volume_ratio(panel: Panel) -> pd.DataFrame:
    """Return the log of the previous volume over its mean of 21 sessions; 0, the average, where none is reported."""
    volume = pd.DataFrame(panel.volume).where(panel.volume > 0).shift()
    ratio = _log(volume / volume.rolling(21, min_periods=10).mean())
    return ratio.fillna(0.0).where(panel.has_bar)


def _alstm11(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    close, adjusted = pd.DataFrame(panel.close), pd.DataFrame(panel.adj_close)
    day = {name: pd.DataFrame(getattr(panel, name)) / close for name in ("open", "high", "low")}
    ratios = {f"{name}_to_close": ratio for name, ratio in day.items()}
    ratios |= {"close_change": close / close.shift(), "adj_close_change": adjusted / adjusted.shift()}
    ratios |= {f"mean_{k}_to_adj_close": adjusted.rolling(k).mean() / adjusted for k in _MEANS}
    return {name: (ratio - 1) * 100 for name, ratio in ratios.items()}


_MEANS = (5, 10, 15, 20, 25, 30)

_OWN = (
    *("log_return_1", "log_return_5", "log_return_21", "log_return_63"),
    *("volatility_21", "volatility_ratio", "range", "close_in_range"),
    *("distance_from_mean_21", "drawdown_63", "up_share_10", "volume_ratio_lagged"),
)
_OTHERS = ("universe_return_1", "universe_return_5", "universe_up_share", "universe_volatility_21")
_NO_RANGE = ("range", "close_in_range", "volume_ratio_lagged")
_EXCESS = {
    "universe_excess_return_1": ("log_return_1", "universe_return_1"),
    "universe_excess_return_5": ("log_return_5", "universe_return_5"),
    "universe_excess_volatility_21": ("volatility_21", "universe_volatility_21"),
}

_REACH = 63 + _BRIDGED  # the longest return may start from a close that is this much earlier

FEATURE_SETS = {
    # The symbol alone: columns of the market tempt a model to time it, with one independent row a session.
    "own": FeatureSet("own", _OWN, "log_return_1", _REACH, _default, ("high", "low", "close")),
    # And how far it stands from the others, for targets that compare it with them.
    "relative": FeatureSet(
        "relative", (*_OWN, *_EXCESS), "log_return_1", _REACH, _relative, ("high", "low", "close")
    ),
    # The default set of versions before there was one for each kind of target.
    "default16": FeatureSet(
        "default16", (*_OWN, *_OTHERS), "log_return_1", _REACH, _default, ("high", "low", "close")
    ),
    # The columns of default16 that depend on closes alone.
    "closes": FeatureSet(
        "closes",
        (*(name for name in _OWN if name not in _NO_RANGE), *_OTHERS),
        "log_return_1",
        _REACH,
        _closes,
    ),
    # The eleven columns of Feng et al., IJCAI 2019 (arXiv:1810.09936), in percent.
    "alstm11": FeatureSet(
        "alstm11",
        (
            *("open_to_close", "high_to_close", "low_to_close", "close_change", "adj_close_change"),
            *(f"mean_{k}_to_adj_close" for k in _MEANS),
        ),
        "adj_close_change",
        max(_MEANS) - 1,
        _alstm11,
        ("open", "high", "low", "close"),
    ),
}
"""The named sets of `[features] set`; `default` is one of them, see `default_features`."""


def default_features(outputs: Iterable[Output]) -> str:
    """Return the name of the set that `default` stands for: relative if every output is, else own.

    Next to an up or down target the columns of `relative` would let the network reconstruct the market, which `own`
    keeps from it.
    """
    return "relative" if all(output.is_relative for output in outputs) else "own"
