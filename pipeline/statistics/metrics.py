"""Metrics of probability forecasts: pure functions on arrays, each with its formula and its paper.

`p` [row] is the probability of up and `y` [row] the outcome, 1 up and 0 down, without NaN. A metric that is not
defined on the rows (no rows, or one class only) is NaN. Better forecasts have lower losses and higher scores.

Metrics that are ratios of sums have two functions, one of the contributions of each row and one of their sums, so
that resampling sessions needs sums only.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = [
    "CLIP",
    "auc",
    "balanced_accuracy",
    "balanced_accuracy_of",
    "base_rate",
    "bins_of_equal_count",
    "brier",
    "brier_skill",
    "confusion",
    "ece",
    "effective_n",
    "effective_n_of",
    "hit_rate",
    "hit_rate_of",
    "log_loss",
    "log_losses",
    "mcc",
    "mcc_of",
    "mean_of",
    "mean_ranks",
    "reliability",
    "squared_errors",
]

CLIP: Final = 1e-12
"""Log losses clip p to [CLIP, 1 - CLIP]: a miss with certainty costs 27.6, not infinity."""

Floats = NDArray[np.float64]


def hit_rate(p: Floats, y: Floats) -> float:
    """Return the share of forecasts with the right direction.

    hits / (hits + misses), where p > 0.5 forecasts up and p < 0.5 down; p = 0.5 has no direction and is left out.
    """
    return float(hit_rate_of(confusion(p, y).sum(axis=0)))


def balanced_accuracy(p: Floats, y: Floats) -> float:
    """Return the mean of the hit rates among ups and among downs; 0.5 is no skill, whatever the base rate.

    (TP / (TP + FN) + TN / (TN + FP)) / 2; p = 0.5 has no direction and is left out. Brodersen, Ong, Stephan and
    Buhmann (2010), "The balanced accuracy and its posterior distribution".
    """
    return float(balanced_accuracy_of(confusion(p, y).sum(axis=0)))


def mcc(p: Floats, y: Floats) -> float:
    """Return Matthews' correlation of the forecast directions with the outcomes, in [-1, 1]; 0 is no skill.

    (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)); p = 0.5 has no direction and is left out. Forecasts of
    one direction only have 0, the limit of random forecasts that hardly ever give the other; outcomes of one direction
    only, NaN.
    Matthews (1975), "Comparison of the predicted and observed secondary structure of T4 phage lysozyme".
    """
    return float(mcc_of(confusion(p, y).sum(axis=0)))


def brier(p: Floats, y: Floats) -> float:
    """Return the mean of (p - y)^2. Brier (1950), "Verification of forecasts expressed in terms of probability"."""
    return float(mean_of(squared_errors(p, y).sum(), len(y)))


def brier_skill(p: Floats, y: Floats, reference: Floats) -> float:
    """Return 1 - brier(p) / brier(reference): 0 is as good as the reference, 1 is perfect.

    Murphy (1973), "Hedging and skill scores for probability forecasts".
    """
    return 1.0 - float(mean_of(squared_errors(p, y).sum(), squared_errors(reference, y).sum()))


def log_loss(p: Floats, y: Floats) -> float:
    """Return the mean of -ln(probability of the outcome that occurred), in nats; p is clipped to [CLIP, 1 - CLIP].

    Good (1952), "Rational decisions".
    """
    return float(mean_of(log_losses(p, y).sum(), len(y)))


def auc(p: Floats, y: Floats) -> float:
    """Return the area under the ROC curve: the chance that a random up has a higher p than a random down; ties half.

    (R - n1 (n1 + 1) / 2) / (n1 n0), with R the sum of the midranks of the n1 ups.
    Mann and Whitney (1947); Hanley and McNeil (1982), "The meaning and use of the area under a ROC curve".
    """
    ups, downs = float(y.sum()), float((1 - y).sum())
    above = float(mean_ranks(p)[y == 1].sum()) - ups * (ups + 1) / 2
    return float(mean_of(above, ups * downs))


def mean_ranks(values: Floats) -> Floats:
    """Return the rank of each value [row] from 1; equal values share the mean of their ranks."""
    level, rows = np.unique(values, return_inverse=True, return_counts=True)[1:]
    return (np.cumsum(rows) - (rows - 1) / 2)[level]


def base_rate(y: Floats) -> float:
    """Return the share of ups."""
    return float(mean_of(y.sum(), len(y)))


def ece(p: Floats, y: Floats, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equally many rows.

    sum over bins of n_b / n |share of ups_b - mean p_b|. Naeini, Cooper and Hauskrecht (2015), "Obtaining well
    calibrated probabilities using Bayesian binning"; bins of equal count as in Nixon et al. (2019), "Measuring
    calibration in deep learning", because daily forecasts crowd around one half. Even perfect probabilities have an
    ECE of about 0.8 sqrt(p (1 - p) bins / n) by chance.
    """
    _, count, sum_p, sum_y = _binned(p, y, bins)
    return float(mean_of(np.abs(sum_y - sum_p).sum(), count.sum()))


def reliability(p: Floats, y: Floats, bins: int = 10, *, session: NDArray[Any] | None = None) -> pd.DataFrame:
    """Return the points of a reliability diagram: one row per bin of equally many rows, by rising p.

    Equal p share a bin, so there may be fewer bins than requested. Murphy and Winkler (1977), "Reliability of
    subjective probability forecasts of precipitation and temperature".

    Args:
        p, y: Forecasts and outcomes, [row].
        bins: The largest number of bins.
        session: [row]; rows of one session are then taken as dependent, which widens the intervals.

    Returns:
        mean_p, share_up, n, and low, high: Wilson's (1927) 95% interval of share_up on `effective_n` rows.
    """
    place, count, sum_p, sum_y = _binned(p, y, bins)
    share_up, effective = sum_y / count, count
    if session is not None:
        effective = np.array([effective_n(y[place == b], session[place == b]) for b in range(len(count))])
    low, high = _wilson(share_up, effective)
    return pd.DataFrame(
        {"mean_p": sum_p / count, "share_up": share_up, "n": count.astype(int), "low": low, "high": high}
    )


def effective_n(values: Floats, session: NDArray[Any]) -> float:
    """Return the number of independent rows that would estimate the mean of `values` [row] as precisely as these rows.

    n sum(d^2) / sum over sessions of (sum of d)^2, with d = values - mean, clipped to [1, n]: n over the design
    effect of Kish (1965), "Survey sampling". Values that are all equal count once per session. Dependence
    between sessions is ignored.
    """
    return effective_n_of(values, np.unique(session, return_inverse=True)[1])


def effective_n_of(values: Floats, session: NDArray[np.intp]) -> float:
    """Return the `effective_n` of values [row] whose sessions are numbered from 0."""
    if len(values) == 0:
        return 0.0
    distance = values - values.mean()
    alone, together = float(np.sum(distance**2)), float(np.sum(np.bincount(session, distance) ** 2))
    if alone == 0:
        return float(np.count_nonzero(np.bincount(session)))
    return (
        float(min(max(len(values) * alone / together, 1.0), len(values))) if together else float(len(values))
    )


def confusion(p: Floats, y: Floats) -> Floats:
    """Return the confusion cells [row, 4] of 0 and 1: true up, false up, false down, true down.

    A row with p = 0.5 is all 0.
    """
    is_up, is_down = p > 0.5, p < 0.5
    cells = (is_up & (y == 1), is_up & (y == 0), is_down & (y == 1), is_down & (y == 0))
    return np.stack(cells, axis=-1).astype(float)


def squared_errors(p: Floats, y: Floats) -> Floats:
    """Return (p - y)^2 [row]."""
    return np.asarray((p - y) ** 2)


def log_losses(p: Floats, y: Floats) -> Floats:
    """Return -ln(probability of the outcome that occurred) [row], in nats."""
    return np.asarray(-np.log(np.clip(np.where(y == 1, p, 1 - p), CLIP, 1 - CLIP)))


def hit_rate_of(cells: Floats) -> Floats:
    """Return the hit rate [...] of summed `confusion` cells [..., 4]."""
    return mean_of(cells[..., 0] + cells[..., 3], cells.sum(axis=-1))


def balanced_accuracy_of(cells: Floats) -> Floats:
    """Return the balanced accuracy [...] of summed `confusion` cells [..., 4]."""
    true_up, false_up, false_down, true_down = np.moveaxis(cells, -1, 0)
    return (mean_of(true_up, true_up + false_down) + mean_of(true_down, true_down + false_up)) / 2


def mcc_of(cells: Floats) -> Floats:
    """Return Matthews' correlation [...] of summed `confusion` cells [..., 4]."""
    true_up, false_up, false_down, true_down = np.moveaxis(cells, -1, 0)
    forecast = (true_up + false_up) * (true_down + false_down)
    actual = (true_up + false_down) * (true_down + false_up)
    correlation = mean_of(true_up * true_down - false_up * false_down, np.sqrt(forecast) * np.sqrt(actual))
    return np.where((forecast == 0) & (actual > 0), 0.0, correlation)


def mean_of(total: Floats | float, weight: Floats | float) -> Floats:
    """Return total / weight [...], NaN where the weight is 0."""
    total, weight = np.broadcast_arrays(np.asarray(total, float), np.asarray(weight, float))
    return np.asarray(np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0))


def bins_of_equal_count(p: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin of each row, numbered by rising p: at most `bins` of equally many rows; equal p share a bin."""
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins)) if len(p) else np.empty(0)
    place = np.searchsorted(edges, p, side="right")
    used = np.bincount(place) > 0
    return (np.cumsum(used) - 1)[place]


def _binned(p: Floats, y: Floats, bins: int) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """Return the bin of each row, and the count, sum of p and sum of y of each non-empty bin."""
    place = bins_of_equal_count(p, bins)
    count, sum_p, sum_y = (np.bincount(place, weights).astype(float) for weights in (None, p, y))
    return place, count, sum_p, sum_y


def _wilson(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    z = float(ndtri(0.975))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
