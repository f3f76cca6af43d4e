"""Scores of models, each compared with the best baseline on the same rows.

`rows` is a long frame: model, symbol, as_of, target_session, horizon, target, p_up, outcome (1.0 up, 0.0 down, NaN
without a label: left out). All models must have the same rows, and all rows the same output: forecasts of one and of
twenty sessions ahead are scored apart.
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
from pipeline.evaluation.session_sums import METRICS, RETURN_METRICS, SessionSums, sum_sessions
from pipeline.schema import MIN_SESSIONS, SCORES, empty, validated
from pipeline.statistics import bootstrap, metrics, significance

__all__ = ["score"]


Array = NDArray[np.float64]


def score(
    rows: pd.DataFrame, *, baseline: str, group: str = "all", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score every model of `rows`, compared with the baseline on the same rows.

    Intervals are 95% percentile intervals of the stationary bootstrap of whole sessions, with blocks at least as long
    as the horizon, because outcomes of neighbouring sessions overlap. p_value is two-sided, of no difference from the
    baseline: Diebold and Mariano's on session means for log_loss, brier (and with it brier_skill) and hit_rate (rows
    where both gave a direction), and on the sessions' values for rank_ic and top_minus_bottom; the paired bootstrap for
    the others. t_statistic is that of the metric itself against no skill, in standard errors of Newey and West (1987):
    of auc_within_sessions, rank_ic and top_minus_bottom. Metrics that chance alone lifts above zero (ece,
    miscalibration, discrimination) have bias-corrected intervals, so a miscalibration may lie above its own. A model's
    scores do not depend on the other models in `rows`.

    Args:
        rows: The long frame; with realized_return there are RETURN_METRICS too.
        baseline: The model that the others are compared with, chosen before the test (see `best_baseline`).
        group: The name of these rows; goes into the column `group`, the rows' output into `target` and `horizon`.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        schema.SCORES, one row per model and metric; n, effective_n and sessions count the rows that enter the metric
        (where no row has a direction, hit_rate, balanced_accuracy and mcc are NaN, and n counts all rows).
        No row without an outcome.

    Raises:
        NextdayError: the baseline is not among the models, or the models have different rows.
    """
    table = gather_labelled(rows)
    table.require(baseline)
    if not len(table.y):
        return empty(SCORES)
    reference = sum_sessions(table, baseline)
    scores = pd.DataFrame(
        [
            {"model": model, "group": group, **table.output._asdict(), "baseline": baseline, **line}
            for model in table.p
            for line in _score_model(table, model, baseline, reference, draws, seed)
        ]
    )
    return validated(scores, SCORES)


def _score_model(
    table: LabelledRows, model: str, baseline: str, reference: SessionSums, draws: int, seed: int
) -> Iterator[dict[str, str | float]]:
    sums = reference if model == baseline else sum_sessions(table, model)
    copies = bootstrap.resample_sessions(table.log_loss(model), horizon=table.horizon, draws=draws, seed=seed)
    drawn, drawn_baseline = sums.resample(copies, reference), reference.resample(copies, reference)
    value, baseline_value = sums.measure(reference), reference.measure(reference)
    sizes = measure_effective_n(table, model, sums)
    for metric in METRICS if table.returns is None else (*METRICS, *RETURN_METRICS):
        line = {
            "metric": metric,
            "value": value[metric],
            "baseline_value": baseline_value[metric],
            **asdict(sizes[metric]),
        }
        few = metric in RETURN_METRICS and sizes[metric].sessions < MIN_SESSIONS * table.horizon
        line["low"], line["high"] = (
            _interval(metric, value[metric], drawn) if not few else (math.nan, math.nan)
        )
        line["t_statistic"] = _t_statistic(metric, sums, table.horizon)
        if model == baseline or few:
            line["p_value"] = math.nan
        elif metric in _SESSION_LOSSES:
            line["p_value"] = _loss_test(table, model, baseline, metric)
        elif metric in ("rank_ic", "top_minus_bottom"):
            line["p_value"] = _mean_test(metric, sums, reference, table.horizon)
        else:
            differences = drawn[metric] - drawn_baseline[metric]
            line["p_value"] = _drawn_p_value(metric, value[metric] - baseline_value[metric], differences)
        yield line


_LIFTED: Final = ("ece", "miscalibration", "discrimination")
"""Metrics that chance alone lifts above zero; resampling lifts them once more."""


def _interval(metric: str, value: float, drawn: Mapping[str, Array]) -> tuple[float, float]:
    """Return the percentile interval; for the metrics of _LIFTED a bias-corrected one, with ends of at least zero.

    The calibration error is a sum of distances, so its error is at most the sum of the errors of the bins: its interval
    is value -+ the 95th percentile of that sum in the samples. The others have the basic interval
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
    """Return 1 for a miss and 0 for a hit [row], NaN where p = 0.5 has no direction."""
    return np.where(p == 0.5, np.nan, (p > 0.5) != (y == 1))


_SESSION_LOSSES: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "hit_rate": _misses,
    "brier": metrics.squared_errors,
    "brier_skill": metrics.squared_errors,
    "log_loss": metrics.log_losses,
}


def _loss_test(table: LabelledRows, model: str, baseline: str, metric: str) -> float:
    """Return Diebold and Mariano's p-value of equal session means, over the rows where both have a loss."""
    loss = _SESSION_LOSSES[metric]
    difference = significance.drop_rounding(loss(table.p[baseline], table.y) - loss(table.p[model], table.y))
    both = ~np.isnan(difference)
    total, rows = table.by_session(np.where(both, difference, 0)), table.by_session(both)
    return significance.diebold_mariano(total[rows > 0] / rows[rows > 0], horizon=table.horizon).p_value


def _t_statistic(metric: str, sums: SessionSums, horizon: int) -> float:
    """Return the t statistic of a metric of ranking against no skill; NaN for others, and where it is not finite."""
    statistic = significance.diebold_mariano(_skill(metric, sums), horizon=horizon).statistic
    return statistic if math.isfinite(statistic) else math.nan


def _mean_test(metric: str, sums: SessionSums, reference: SessionSums, horizon: int) -> float:
    """Return Diebold and Mariano's p-value of equal means over the sessions that count."""
    difference = significance.drop_rounding(_skill(metric, sums) - _skill(metric, reference))
    return significance.diebold_mariano(difference, horizon=horizon).p_value


def _skill(metric: str, sums: SessionSums) -> Array:
    """Return the values [session that counts] whose mean is 0 without skill in ranking; none for other metrics."""
    if metric == "auc_within_sessions":
        return significance.drop_rounding((sums.wins - sums.pairs / 2)[sums.pairs > 0])
    series = {} if sums.ranks is None else {"rank_ic": sums.ranks.ic, "top_minus_bottom": sums.ranks.spread}
    found = series.get(metric, np.empty(0))
    return significance.drop_rounding(found[~np.isnan(found)])
