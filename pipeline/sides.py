"""Which side a forecast takes, up or down, or none; and how often it takes one.

A probability always says something; a direction is only told where the confidence |p_up - 0.5| reaches the model's
threshold, which its calibrate range set. One function decides it for the score, the evening and the replay.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import significance
from pipeline.metrics import effective_n, mean_of
from pipeline.schema import FORECAST_KEY, SCORES, SIDES, empty, validated

__all__ = ["SIDES_TAKEN", "count_sides", "measure_sides", "select_told", "take_sides"]

Floats = NDArray[np.float64]

SIDES_TAKEN: Final = "sides_taken"
"""The metric that says which share of the forecasts took a side; its baseline is the target."""


def take_sides(p_up: Floats, threshold: Floats | float = 0.0) -> "pd.Categorical[str]":
    """Return up, down or none [row]: the side of 0.5, told where |p_up - 0.5| is `threshold` or more.

    A p_up of 0.5 itself has no side.
    """
    is_told = np.abs(p_up - 0.5) >= threshold
    codes = np.select([is_told & (p_up > 0.5), is_told & (p_up < 0.5)], [0, 1], 2)
    return pd.Categorical.from_codes(codes, pd.Index(SIDES))


def count_sides(forecasts: pd.DataFrame) -> str:
    """Say how often each direction is told, as "12 up, 8 down, 10 none"; what never is, is left out."""
    counts = forecasts["direction"].value_counts()
    return ", ".join(f"{counts[side]:,} {side}" for side in SIDES if counts.get(side))


def select_told(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the rows of every model where `model` takes a side: on them it can be held against the others.

    Args:
        rows: The long frame of `pipeline.scores`, with direction.
        model: Whose side counts.
    """
    own = rows[(rows["model"] == model) & (rows["direction"] != "none")]
    told = pd.MultiIndex.from_frame(own[FORECAST_KEY])
    return rows[pd.MultiIndex.from_frame(rows[FORECAST_KEY]).isin(told)]


def measure_sides(
    rows: pd.DataFrame, *, model: str, target: float, group: str = "all", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the share of a model's rows that take a side, beside the share that was asked for.

    Args:
        rows: The long frame of `pipeline.scores`, with direction: rows that the threshold was not set on.
        model: Whose.
        target: What was asked for.
        group: What the rows have in common.
        draws: Samples of the stationary bootstrap of whole sessions that the 95% interval is taken from.
        seed: Of the bootstrap.

    Returns:
        schema.SCORES, one row; none without an outcome.
    """
    own = rows[(rows["model"] == model) & rows["outcome"].notna()]
    if own.empty:
        return empty(SCORES)
    is_told = own["direction"] != "none"
    takes = is_told.groupby(own["target_session"])
    told, n = takes.sum().to_numpy(float), takes.count().to_numpy(float)
    length = max(significance.choose_block_length(told / n), float(own["horizon"].max()))
    copies = significance.draw_sessions(len(n), block_length=length, draws=draws, seed=seed)
    low, high = significance.percentile_interval(mean_of(copies @ told, copies @ n))
    line = {"value": told.sum() / n.sum(), "low": low, "high": high, "n": int(n.sum()), "sessions": len(n)}
    line["effective_n"] = effective_n(np.asarray(is_told, np.float64), own["target_session"].to_numpy())
    names = {"model": model, "group": group, "metric": SIDES_TAKEN, "baseline": "target"}
    return validated(pd.DataFrame([{**names, **line, "baseline_value": target, "p_value": np.nan}]), SCORES)
