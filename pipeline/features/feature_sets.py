"""The network's inputs per session: named sets of causal, scale-free columns.

A feature at session t is computable at the close of t. Volume is always lagged by one session, because vendors
revise it overnight. No column uses the open: some vendors print the previous close there (^GSPC of the sample does
on 40% of sessions), except in `alstm11`, which follows its paper.

In these sets one missing bar masks two rows of a symbol: its own, and the next one, whose one-session return is
unknown. Rolling windows need 80% of their sessions (51 of 63), and a longer return starts from the last close known at
or before its first session, at most five sessions earlier. A new listing needs 63 sessions, for its longest return.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import (
    BRIDGED,
    Columns,
    FeatureSet,
    close_position,
    leave_one_out_mean,
    log_of,
    rises,
    rolling,
    volume_ratio,
)
from pipeline.features.panel import Panel
from pipeline.features.wide_sets import RETURNS31, WIDE
from pipeline.outputs import Output

__all__ = ["FEATURE_SETS", "default_features"]


def _default(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    return {
        **_closes(panel, belongs),
        "range": log_of(pd.DataFrame(panel.high) / pd.DataFrame(panel.low)),
        "close_in_range": close_position(panel),
        "volume_ratio_lagged": volume_ratio(panel, 21),
    }


def _relative(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    columns = _default(panel, belongs)
    return columns | {name: columns[own] - columns[others] for name, (own, others) in _EXCESS.items()}


def _closes(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
    log = log_of(pd.DataFrame(panel.adj_close))
    step, known = log.diff(), log.ffill(limit=BRIDGED)
    change = {k: log - known.shift(k) for k in (1, 5, 21, 63)}
    deviation = {k: rolling(change[1], k).std() for k in (5, 21, 63)}
    return {
        "log_return_1": step,
        **{f"log_return_{k}": change[k] for k in (5, 21, 63)},
        "volatility_21": log_of(deviation[21]),
        "volatility_ratio": log_of(deviation[5] / deviation[63]),
        "distance_from_mean_21": (log - rolling(log, 21).mean()) / deviation[21],
        "drawdown_63": log - rolling(log, 63).max(),
        "up_share_10": rolling(rises(change[1]), 10).mean(),
        "universe_return_1": leave_one_out_mean(step, belongs),
        "universe_return_5": leave_one_out_mean(change[5], belongs),
        "universe_up_share": leave_one_out_mean(rises(step), belongs),
        "universe_volatility_21": leave_one_out_mean(log_of(deviation[21]), belongs),
    }


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

_REACH = 63 + BRIDGED  # the longest return may start from a close that is this much earlier

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
    "returns31": RETURNS31,
    "wide": WIDE,
}
"""The named sets of `[features] set`; `default` is one of them, see `default_features`."""


def default_features(outputs: Iterable[Output]) -> str:
    """Return the name of the set that `default` stands for: relative if every output is, else own.

    Next to an up or down target the columns of `relative` would let the network reconstruct the market, which `own`
    keeps from it.
    """
    return "relative" if all(output.is_relative for output in outputs) else "own"
