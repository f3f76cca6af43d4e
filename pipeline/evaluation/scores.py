"""Scores beside their best baseline, and a verdict in plain words.

`rows` is a long frame: model, symbol, as_of, target_session, horizon, p_up, outcome (1.0 up, 0.0 down, NaN where
there is no label: left out). Every model must stand on the very same rows, and all rows have one horizon: what lies
one session ahead and what lies twenty ahead are two questions, with two answers.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.evaluation.effective_n import measure_effective_n
from pipeline.evaluation.session_sums import METRICS, SessionSums, sum_sessions
from pipeline.schema import SCORES, empty, validated
from pipeline.statistics import bootstrap, metrics, significance

__all__ = ["score"]


Array = NDArray[np.float64]
_BASE_RATE: Final = "base_rate"


def score(
    rows: pd.DataFrame, *, baseline: str, group: str = "all", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score every model of `rows`, each beside the baseline on the same rows.

    Intervals are 95% percentile intervals of the stationary bootstrap of whole sessions, its blocks at least as long
    as the horizon: outcomes of neighbouring sessions overlap. p_value is two-sided, of no
    difference from the baseline: Diebold and Mariano's on session means for log_loss, brier (and with it
    brier_skill) and hit_rate (rows where both gave a direction), the paired bootstrap for the others. What chance
    alone lifts above zero (ece, miscalibration, discrimination) has intervals that take that back: a miscalibration
    may lie above its own. A model's scores do not depend on which other models stand in `rows`.

    Args:
        rows: The long frame.
        baseline: The model that the others are held against, chosen before the test (see `best_baseline`).
        group: What the rows have in common; goes into the column `group`.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        schema.SCORES, a row a model and metric; n, effective_n and sessions count the rows that the metric stands on
        (where no row gave a direction hit_rate, balanced_accuracy and mcc are NaN, and n counts the rows on offer).
        Without an outcome: no row.

    Raises:
        NextdayError: the baseline is not among the models, or the models stand on different rows.
    """
    table = gather_labelled(rows)
    table.require(baseline)
    if not len(table.y):
        return empty(SCORES)
    reference = sum_sessions(table, baseline)
    scores = pd.DataFrame(
        [
            {"model": model, "group": group, "horizon": table.horizon, "baseline": baseline, **line}
            for model in table.p
            for line in _lines(table, model, baseline, reference, draws, seed)
        ]
    )
    return validated(scores, SCORES)


def _lines(
    table: LabelledRows, model: str, baseline: str, reference: SessionSums, draws: int, seed: int
) -> Iterator[dict[str, str | float]]:
    sums = reference if model == baseline else sum_sessions(table, model)
    copies = bootstrap.resample_sessions(table.log_loss(model), horizon=table.horizon, draws=draws, seed=seed)
    drawn, drawn_beside = sums.resample(copies, reference), reference.resample(copies, reference)
    value, beside = sums.measure(reference), reference.measure(reference)
    evidence = measure_effective_n(table, model, sums)
    for metric in METRICS:
        line = {
            "metric": metric,
            "value": value[metric],
            "baseline_value": beside[metric],
            **asdict(evidence[metric]),
        }
        line["low"], line["high"] = _interval(metric, value[metric], drawn)
        if model == baseline:
            line["p_value"] = math.nan
        elif metric in _SESSION_LOSSES:
            line["p_value"] = _loss_test(table, model, baseline, metric)
        else:
            differences = drawn[metric] - drawn_beside[metric]
            line["p_value"] = _drawn_p_value(metric, value[metric] - beside[metric], differences)
        yield line


_LIFTED: Final = ("ece", "miscalibration", "discrimination")
"""Chance alone lifts these above zero, and a resample lifts them once more."""


def _interval(metric: str, value: float, drawn: Mapping[str, Array]) -> tuple[float, float]:
    """Return the percentile interval; of a metric that chance lifts one that takes the lift back, no lower than zero.

    The calibration error is a sum of distances, so it cannot be farther from the true one than the bins are from
    theirs: value -+ the 95th percentile of how far those of the samples lie. The others have the basic interval
    [2 v - q_97.5, 2 v - q_2.5] of Davison and Hinkley (1997), section 5.2.
    """
    low, high = bootstrap.percentile_interval(drawn[metric])
    if metric not in _LIFTED or math.isnan(low):
        return low, high
    if metric == "ece":
        reach = float(np.quantile(drawn["ece_reach"], 0.95))
        return max(value - reach, 0.0), value + reach
    return max(2 * value - high, 0.0), max(2 * value - low, 0.0)


def _drawn_p_value(metric: str, difference: float, drawn: Array) -> float:
    differences = 2 * difference - drawn if metric in _LIFTED else drawn
    return bootstrap.bootstrap_p_value(significance.drop_rounding(differences))


def _misses(p: Array, y: Array) -> Array:
    """Return 1 for a miss and 0 for a hit [row], NaN where p takes no side."""
    return np.where(p == 0.5, np.nan, (p > 0.5) != (y == 1))


_SESSION_LOSSES: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "hit_rate": _misses,
    "brier": metrics.squared_errors,
    "brier_skill": metrics.squared_errors,
    "log_loss": metrics.log_losses,
}


def _loss_test(table: LabelledRows, model: str, baseline: str, metric: str) -> float:
    """Return Diebold and Mariano's p of equal session means, over the rows where both have a loss."""
    loss = _SESSION_LOSSES[metric]
    difference = significance.drop_rounding(loss(table.p[baseline], table.y) - loss(table.p[model], table.y))
    both = ~np.isnan(difference)
    total, rows = table.by_session(np.where(both, difference, 0)), table.by_session(both)
    return significance.diebold_mariano(total[rows > 0] / rows[rows > 0], horizon=table.horizon).p_value
