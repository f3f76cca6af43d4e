"""Scores beside their best baseline, and a verdict in plain words.

`rows` is a long frame: model, symbol, as_of, target_session, horizon, p_up, outcome (1.0 up, 0.0 down, NaN where
there is no label: left out). Every model must stand on the very same rows, and all rows have one horizon: what lies
one session ahead and what lies twenty ahead are two questions, with two answers.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import metrics, significance
from pipeline.errors import NextdayError
from pipeline.schema import FORECAST_KEY, SCORES, empty, validated

__all__ = ["ENOUGH_SESSIONS", "METRICS", "Verdict", "best_baseline", "enough_sessions", "judge", "score"]

Array = NDArray[np.float64]

METRICS: Final = ("hit_rate", "mcc", "brier", "brier_skill", "log_loss", "auc")

_BASE_RATE: Final = "base_rate"

ENOUGH_SESSIONS: Final = 60
"""Below this many sessions, a quarter of trading, there is no verdict: intervals by blocks are too narrow there.
Simulated sessions of 30 rows with a common shock: the interval of 95% held the truth in 83% of runs with 10 sessions,
89% with 20, 90% with 40, 93% with 60, 96% with 120. It is a floor, not a promise: 60 independent calls tell a hit
rate of 66% from 50%, and nothing finer."""


@dataclass(frozen=True)
class Verdict:
    """What the evidence says about a model.

    Attributes:
        finding: "edge", "no edge found", "worse than the baseline" or "not enough data".
        sentence: The finding in plain words, with its evidence.
        model: Which model.
        baseline: Which baseline it was held against.
        difference: The baseline's minus the model's log loss, mean over sessions of the sessions' means; positive is
            better. NaN without rows, as are the next three.
        low: Lower end of its 95% interval.
        high: Upper end.
        p_value: Diebold and Mariano's.
        n: Forecasts with an outcome.
        sessions: Sessions they stand on.
    """

    finding: str
    sentence: str
    model: str
    baseline: str
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    sessions: int


@dataclass(frozen=True, eq=False)
class _Table:
    """Labelled rows in order of session: p of every model [n], y [n], session numbers [n] from 0 without holes."""

    p: Mapping[str, Array]
    y: Array
    session: NDArray[np.intp]
    horizon: int

    @property
    def sessions(self) -> int:
        return int(self.session[-1]) + 1 if len(self.session) else 0

    def by_session(self, values: Array) -> Array:
        sums: Array = np.bincount(self.session, weights=values, minlength=self.sessions).astype(float)
        return sums

    def log_loss(self, model: str) -> Array:
        """Return the mean log loss of each session."""
        return self.by_session(metrics.log_losses(self.p[model], self.y)) / np.bincount(self.session)


@dataclass(frozen=True, eq=False)
class _Sums:
    """One model's rows summed by session: all that a sample of whole sessions needs."""

    rows: Array
    ups: Array
    confusion: Array
    squared_error: Array
    log_loss: Array
    wins: Array

    def metrics(self, copies: Array, reference: "_Sums") -> dict[str, Array]:
        """Return every metric [sample] of samples that hold session s copies[:, s] times."""
        rows, cells, error = copies @ self.rows, copies @ self.confusion, copies @ self.squared_error
        return {
            "hit_rate": metrics.hit_rate_of(cells),
            "mcc": metrics.mcc_of(cells),
            "brier": metrics.mean_of(error, rows),
            "brier_skill": 1 - metrics.mean_of(error, copies @ reference.squared_error),
            "log_loss": metrics.mean_of(copies @ self.log_loss, rows),
            "auc": metrics.auc_of_wins(self.wins, self.ups, self.rows - self.ups, copies),
        }


def enough_sessions(horizon: int) -> int:
    """Return below how many sessions there is no verdict: ENOUGH_SESSIONS spans of `horizon` that do not overlap.

    Simulated forecasts without skill that hardly change from session to session: at 5 sessions ahead the interval of
    95% held the truth in 77% of runs with 60 sessions, 85% with 120, 87% with 252, 91% with 504.
    """
    return ENOUGH_SESSIONS * horizon


def best_baseline(rows: pd.DataFrame) -> str:
    """Return the model with the lowest log loss, the mean over sessions of the sessions' means.

    The caller hands in baselines only, and only rows from before the test range: a baseline that was chosen on the
    test would be the luckiest one. Of equals the first by name is taken.

    Raises:
        NextdayError: no row has an outcome, or the models stand on different rows.
    """
    table = _table(rows)
    if not len(table.y):
        raise NextdayError(
            "No baseline can be chosen: not one row before the test has an outcome",
            way_out="leave more sessions before the test: a later start of the test, or a longer history",
        )
    losses = {model: float(table.log_loss(model).mean()) for model in sorted(table.p)}
    return min(losses, key=losses.__getitem__)


def score(
    rows: pd.DataFrame, *, baseline: str, group: str = "all", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score every model of `rows`, each beside the baseline on the same rows.

    Intervals are 95% percentile intervals of the stationary bootstrap of whole sessions, its blocks at least as long
    as the horizon: outcomes of neighbouring sessions overlap. p_value is two-sided, of no
    difference from the baseline: Diebold and Mariano's on session means for log_loss, brier (and with it
    brier_skill) and hit_rate (rows where both gave a direction), the paired bootstrap for mcc and auc. A model's
    scores do not depend on which other models stand in `rows`.

    Args:
        rows: The long frame.
        baseline: The model that the others are held against, chosen before the test (see `best_baseline`).
        group: What the rows have in common; goes into the column `group`.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        schema.SCORES, a row a model and metric; n and sessions count the rows that the metric stands on (where no row
        gave a direction hit_rate and mcc are NaN, and n counts the rows on offer). Without an outcome: no row.

    Raises:
        NextdayError: the baseline is not among the models, or the models stand on different rows.
    """
    table = _table(rows)
    _require(table, baseline)
    if not len(table.y):
        return empty(SCORES)
    reference = _sums(table, baseline)
    scores = pd.DataFrame(
        [
            {"model": model, "group": group, "metric": metric, "baseline": baseline, **line}
            for model in table.p
            for metric, line in _lines(table, model, baseline, reference, draws, seed)
        ]
    )
    return validated(scores, SCORES)


def judge(rows: pd.DataFrame, *, model: str, baseline: str, draws: int = 1000, seed: int = 0) -> Verdict:
    """Say whether `model` beats `baseline`: by the paired log loss, a session at a time.

    "edge" if the 95% interval of the mean session difference lies above zero, Diebold and Mariano's p is below 5%,
    and the model is better than `base_rate` too where that stands in the rows: a baseline that was best before the
    test may do badly in it, and then a model that says nothing beats it; "worse than the baseline" if the interval
    lies below zero and p is below 5%; else "no edge found". Fewer than
    `enough_sessions` of the horizon: "not enough data", whatever the numbers.

    Args:
        rows: As for `score`; other models may stand in it.
        model: The model to be judged.
        baseline: Chosen before the test (see `best_baseline`).
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: one of the two is not in `rows`, or they stand on different rows.
    """
    table = _table(rows[rows["model"].isin([model, baseline])])
    _require(table, model)
    _require(table, baseline)
    by_session = (
        _without_rounding(table.log_loss(baseline) - table.log_loss(model)) if table.sessions else np.empty(0)
    )
    means = _copies(by_session, table.horizon, draws, seed) @ by_session / max(table.sessions, 1)
    low, high = significance.percentile_interval(means)
    test = significance.diebold_mariano(by_session, horizon=table.horizon)
    difference, p_value = test.difference, test.p_value
    beside = _over_base_rate(rows, model, baseline)
    finding = _finding(table.sessions, enough_sessions(table.horizon), low, high, p_value)
    if finding == "edge" and beside <= 0:
        finding = "no edge found"
    verdict = Verdict(
        finding, "", model, baseline, difference, low, high, p_value, len(table.y), table.sessions
    )
    return replace(verdict, sentence=_sentence(verdict, table.horizon) + _beside(beside))


def _table(rows: pd.DataFrame) -> _Table:
    labelled = rows[rows["outcome"].notna()]
    horizons = sorted(labelled["horizon"].unique())
    if len(horizons) > 1:
        raise NextdayError(
            f"Rows of several horizons ({', '.join(map(str, horizons))}) cannot be scored together",
            way_out="score each horizon by itself",
        )
    keys = labelled.groupby(FORECAST_KEY, sort=False)
    row, first = keys.ngroup().to_numpy(), ~labelled.duplicated(FORECAST_KEY).to_numpy()
    y = labelled["outcome"].to_numpy(float)[first]
    session = np.unique(labelled["target_session"].to_numpy()[first], return_inverse=True)[1]
    order = np.argsort(session, kind="stable")
    p = {
        str(model): _on_every_row(str(model), part, row[part.index], y)[order]
        for model, part in labelled.reset_index(drop=True).groupby("model", sort=False)
    }
    return _Table(p, y[order], session[order], int(horizons[0]) if horizons else 1)


def _on_every_row(model: str, part: pd.DataFrame, row: NDArray[np.integer], y: Array) -> Array:
    p = np.full(len(y), np.nan)
    p[row] = part["p_up"]
    if len(part) != len(y) or np.isnan(p).any():
        missing, extra = int(np.isnan(p).sum()), len(part) - len(np.unique(row))
        raise NextdayError(
            f"The models do not stand on the same rows: {model} has no p_up on {missing} of {len(y)} rows and more "
            f"than one on {extra}",
            way_out=f"score models on one row per {', '.join(FORECAST_KEY)} each",
        )
    if not np.array_equal(y[row], part["outcome"]):
        raise NextdayError(f"{model} has other outcomes than the models before it on the same rows")
    return p


def _require(table: _Table, model: str) -> None:
    if len(table.y) and model not in table.p:
        raise NextdayError(f"There is no forecast by {model!r}; there are {', '.join(sorted(table.p))}")


def _sums(table: _Table, model: str) -> _Sums:
    p, y, add = table.p[model], table.y, table.by_session
    return _Sums(
        rows=add(np.ones_like(y)),
        ups=add(y),
        confusion=np.stack([add(cell) for cell in metrics.confusion(p, y).T], axis=1),
        squared_error=add(metrics.squared_errors(p, y)),
        log_loss=add(metrics.log_losses(p, y)),
        wins=metrics.session_wins(p, y, table.session, table.sessions),
    )


def _lines(
    table: _Table, model: str, baseline: str, reference: _Sums, draws: int, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    sums = reference if model == baseline else _sums(table, model)
    copies = _copies(table.log_loss(model), table.horizon, draws, seed)
    once = np.ones((1, table.sessions))
    value, beside = sums.metrics(once, reference), reference.metrics(once, reference)
    drawn, drawn_beside = sums.metrics(copies, reference), reference.metrics(copies, reference)
    for metric in METRICS:
        low, high = significance.percentile_interval(drawn[metric])
        if model == baseline:
            p_value = math.nan
        elif metric in _SESSION_LOSSES:
            p_value = _loss_test(table, model, baseline, metric)
        else:
            p_value = significance.bootstrap_p_value(drawn[metric] - drawn_beside[metric])
        yield (
            metric,
            {
                "value": float(value[metric][0]),
                "low": low,
                "high": high,
                **_size(table, model, metric),
                "baseline_value": float(beside[metric][0]),
                "p_value": p_value,
            },
        )


def _copies(series: Array, horizon: int, draws: int, seed: int) -> Array:
    """Draw samples of the sessions of `series`, in blocks as long as its dependence and its overlap ask for."""
    if len(series) < significance.MIN_SESSIONS * horizon:
        return np.empty((0, len(series)))
    block_length = max(significance.choose_block_length(series), float(horizon))
    return significance.draw_sessions(len(series), block_length=block_length, draws=draws, seed=seed)


def _size(table: _Table, model: str, metric: str) -> dict[str, int]:
    called = table.p[model] != 0.5
    counted = called if metric in ("hit_rate", "mcc") and called.any() else np.ones_like(called)
    return {"n": int(counted.sum()), "sessions": len(np.unique(table.session[counted]))}


def _misses(p: Array, y: Array) -> Array:
    """Return 1 for a miss and 0 for a hit [row], NaN where p takes no side."""
    return np.where(p == 0.5, np.nan, (p > 0.5) != (y == 1))


_SESSION_LOSSES: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "hit_rate": _misses,
    "brier": metrics.squared_errors,
    "brier_skill": metrics.squared_errors,
    "log_loss": metrics.log_losses,
}


def _loss_test(table: _Table, model: str, baseline: str, metric: str) -> float:
    """Return Diebold and Mariano's p of equal session means, over the rows where both have a loss."""
    loss = _SESSION_LOSSES[metric]
    difference = _without_rounding(loss(table.p[baseline], table.y) - loss(table.p[model], table.y))
    both = ~np.isnan(difference)
    total, rows = table.by_session(np.where(both, difference, 0)), table.by_session(both)
    return significance.diebold_mariano(total[rows > 0] / rows[rows > 0], horizon=table.horizon).p_value


def _without_rounding(difference: Array) -> Array:
    """Return the difference, zero where it is rounding: a network calibrated to the base rate says nothing else.

    Without this, a constant difference in the sixteenth digit is an edge that no test can overlook.
    """
    return np.where(np.abs(difference) < 1e-9, 0.0, difference)


def _finding(sessions: int, enough: int, low: float, high: float, p_value: float) -> str:
    if sessions < enough:
        return "not enough data"
    if p_value < 0.05 and low > 0:
        return "edge"
    return "worse than the baseline" if p_value < 0.05 and high < 0 else "no edge found"


def _over_base_rate(rows: pd.DataFrame, model: str, baseline: str) -> float:
    """Return by how much the model's log loss is lower than base_rate's; infinite where that is not in the rows."""
    if baseline == _BASE_RATE or _BASE_RATE not in set(rows["model"]):
        return math.inf
    table = _table(rows[rows["model"].isin([model, _BASE_RATE])])
    return (
        float(_without_rounding(table.log_loss(_BASE_RATE) - table.log_loss(model)).mean())
        if table.sessions
        else 0.0
    )


def _beside(difference: float) -> str:
    if math.isinf(difference):
        return ""
    side = "lower" if difference > 0 else "no lower"
    return f" Beside {_BASE_RATE} on the same rows it is {side}: {difference:+z.4f}."


def _sentence(v: Verdict, horizon: int) -> str:
    needed = round(significance.forecasts_needed(0.52), -1)
    hint = f"It takes about {needed:,} independent forecasts to tell 52% hits from 50%."
    ahead = f", {horizon} sessions ahead" if horizon > 1 else ""
    if not v.sessions:
        return f"Not enough data: no forecast by {v.model}{ahead} has an outcome yet. {hint}"
    sign, side = (1, "lower") if v.difference >= 0 else (-1, "higher")
    low, high = sorted((sign * v.low, sign * v.high))
    interval = f" [{low:z.4f}, {high:z.4f}]" if low <= high else ""
    evidence = (
        f"over {v.sessions:,} session{'s' * (v.sessions > 1)} ({v.n:,} forecasts{ahead}) {v.model}'s log loss is "
        f"{side} than {v.baseline}'s by {abs(v.difference):.4f}{interval} a session"
    )
    opening = f"{v.finding.capitalize()}: {evidence}"
    if v.finding == "not enough data":
        return f"{opening}; a verdict needs {enough_sessions(horizon):,} sessions. {hint}"
    test = f"Diebold-Mariano p = {v.p_value:.3f}" if v.p_value >= 0.001 else "Diebold-Mariano p < 0.001"
    if v.finding != "no edge found":
        return f"{opening}, an interval without zero ({test})."
    holds = (
        "that interval holds zero"
        if v.low <= 0 <= v.high
        else "that interval leaves zero out, but the test does not reject"
    )
    return f"{opening}; {holds} ({test}). {hint}"
