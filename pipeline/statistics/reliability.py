"""Calibration by isotonic regression: the reliability diagram and the decomposition of the Brier score.

CORP of Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS
118 (8): no bins to choose; the recalibrated probability is the share of ups by isotonic regression.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from pipeline.statistics import bootstrap
from pipeline.statistics.auc import count_levels, rank_levels, ranked_bins
from pipeline.statistics.metrics import brier, mean_of

__all__ = [
    "POINTS",
    "Decomposition",
    "decompose_brier",
    "recalibrate",
    "recalibrated_brier",
    "trace_reliability",
]

POINTS: Final = 200
"""The largest number of points of a diagram; with more distinct p the points have equally many rows."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decomposition:
    """The parts of a Brier score: miscalibration - discrimination + uncertainty.

    Attributes:
        miscalibration: What recalibration would save; 0 is best.
        discrimination: What the recalibrated forecast saves compared with the rows' base rate; more is better.
        uncertainty: The Brier score of that base rate: how hard the rows are, r (1 - r).
    """

    miscalibration: float
    discrimination: float
    uncertainty: float


def decompose_brier(p: Floats, y: Floats) -> Decomposition:
    """Split the Brier score of the rows.

    MCB = S(p) - S(c), DSC = S(r) - S(c), UNC = S(r), with c the isotonic recalibration of p and r the share of ups:
    Dimitriadis, Gneiting and Jordan (2021), following Murphy (1973), "A new vector partition of the
    probability score". With few rows chance alone lifts the first two above zero.
    """
    level = rank_levels(p)
    return decompose_counts(brier(p, y), *count_levels(level, y))


def decompose_counts(score: float, count: Floats, ups: Floats) -> Decomposition:
    """Return the parts of a Brier score, from the rows `count` [level] of each p, by rising p, and their `ups`."""
    after, share = float(recalibrated_brier(count, ups)), float(mean_of(ups.sum(), count.sum()))
    uncertainty = share * (1 - share)
    return Decomposition(score - after, uncertainty - after, uncertainty)


def recalibrate(count: Floats, ups: Floats) -> Floats:
    """Return the isotonic regression of the share of ups [..., bin], NaN where a bin has no row.

    The pool-adjacent-violators algorithm: Ayer, Brunk, Ewing, Reid and Silverman (1955).

    Args:
        count: Rows of each bin [..., bin], the bins by rising p.
        ups: Rows of each bin that went up.
    """
    curve, has = np.full(count.shape, np.nan), count > 0
    if has.any():
        # One regression for all samples: two apart, the shares of one never violate the order with those of the next.
        apart = 2.0 * np.arange(count[..., 0].size).reshape(*count.shape[:-1], 1)
        starts = isotonic_regression(
            (ups[has] / count[has]) + (apart + 0 * count)[has], weights=count[has]
        ).blocks
        pooled = np.add.reduceat(ups[has], starts[:-1]) / np.add.reduceat(count[has], starts[:-1])
        curve[has] = np.repeat(pooled, np.diff(starts))
    return curve


def recalibrated_brier(count: Floats, ups: Floats) -> Floats:
    """Return the Brier score [...] of the recalibrated forecast from counts [..., bin].

    sum n_b c_b (1 - c_b) / n: of the rows with recalibrated probability c the share c went up.
    """
    curve = recalibrate(count, ups)
    return mean_of(np.nansum(count * curve * (1 - curve), axis=-1), count.sum(axis=-1))


def trace_reliability(
    p: Floats, y: Floats, session: NDArray[np.intp], *, horizon: int = 1, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the curve of a reliability diagram with a 95% band, by rising p.

    The band is pointwise, from recalibrating resampled whole sessions; where a draw has no row of a point, its curve is
    interpolated there. It is wide at both ends, where few rows determine the curve.

    Args:
        p, y: Forecasts and outcomes, [row].
        session: [row], numbers from 0 without gaps, in order of time.
        horizon: Sessions ahead; blocks are at least as long.
        draws: Samples of the stationary bootstrap.
        seed: Of the bootstrap.

    Returns:
        mean_p, share_up (recalibrated), low, high, n; low and high are NaN with too few sessions.
    """
    place = ranked_bins(rank_levels(p), POINTS)
    points, sessions = int(place.max(initial=-1)) + 1, int(session.max(initial=-1)) + 1
    cell = session * points + place
    count, ups = (
        np.bincount(cell, weights, sessions * points).astype(float).reshape(sessions, points)
        for weights in (None, y)
    )
    rows = count.sum(axis=0)
    drawn = _drawn_curves(count, ups, horizon, draws, seed)
    band = np.array([bootstrap.percentile_interval(values) for values in drawn.T]).reshape(-1, 2)
    return pd.DataFrame(
        {
            "mean_p": np.bincount(place, p) / rows,
            "share_up": recalibrate(rows, ups.sum(axis=0)),
            "low": band[:, 0],
            "high": band[:, 1],
            "n": rows.astype(int),
        }
    )


def _drawn_curves(count: Floats, ups: Floats, horizon: int, draws: int, seed: int) -> Floats:
    """Return the recalibration curves [draw, point] of resampled sessions."""
    share = mean_of(ups.sum(axis=1), count.sum(axis=1))
    copies = bootstrap.resample_sessions(share, horizon=horizon, draws=draws, seed=seed)
    curves = recalibrate(copies @ count, copies @ ups)
    at = np.arange(count.shape[1])
    filled = [np.interp(at, at[~np.isnan(curve)], curve[~np.isnan(curve)]) for curve in curves]
    return np.reshape(filled, (len(curves), len(at)))
