"""Edge, no edge, not enough data."""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from pipeline.errors import NextdayError
from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.evaluation.scores import _BASE_RATE
from pipeline.statistics import bootstrap, significance

__all__ = ["ENOUGH_SESSIONS", "Verdict", "best_baseline", "enough_sessions", "judge"]


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
    table = gather_labelled(rows)
    if not len(table.y):
        raise NextdayError(
            "No baseline can be chosen: not one row before the test has an outcome",
            fix="leave more sessions before the test: a later start of the test, or a longer history",
        )
    losses = {model: float(table.log_loss(model).mean()) for model in sorted(table.p)}
    return min(losses, key=losses.__getitem__)


def judge(rows: pd.DataFrame, *, model: str, baseline: str, draws: int = 1000, seed: int = 0) -> Verdict:
    """Say whether `model` beats `baseline`: by the paired log loss, a session at a time.

    "edge" if the 95% interval of the mean session difference lies above zero and Diebold and Mariano's p is below 5%,
    and both hold against `base_rate` too where that stands in the rows: a baseline that was best before the
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
    table = gather_labelled(rows[rows["model"].isin([model, baseline, _BASE_RATE])])
    table.require(model)
    table.require(baseline)
    against = _compare(table, model, baseline, draws, seed)
    beside = (
        _compare(table, model, _BASE_RATE, draws, seed)
        if _BASE_RATE in table.p and _BASE_RATE not in (model, baseline)
        else None
    )
    finding = _finding(table.sessions, enough_sessions(table.horizon), against)
    if finding == "edge" and beside and not beside.is_better:
        finding = "no edge found"
    verdict = Verdict(
        *(finding, "", model, baseline, against.difference, against.low, against.high, against.p_value),
        *(len(table.y), table.sessions),
    )
    return replace(verdict, sentence=_sentence(verdict, against, table.horizon) + _beside(beside))


@dataclass(frozen=True)
class _Paired:
    """By how much a model's log loss is lower than another's, a session at a time; NaN where that cannot be told."""

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def is_better(self) -> bool:
        return self.p_value < 0.05 and self.low > 0

    @property
    def is_worse(self) -> bool:
        return self.p_value < 0.05 and self.high < 0


def _compare(table: LabelledRows, model: str, other: str, draws: int, seed: int) -> _Paired:
    by_session = (
        significance.drop_rounding(table.log_loss(other) - table.log_loss(model))
        if table.sessions
        else np.empty(0)
    )
    copies = bootstrap.resample_sessions(by_session, horizon=table.horizon, draws=draws, seed=seed)
    low, high = bootstrap.percentile_interval(copies @ by_session / max(table.sessions, 1))
    test = significance.diebold_mariano(by_session, horizon=table.horizon)
    return _Paired(test.difference, low, high, test.p_value)


def _finding(sessions: int, enough: int, against: _Paired) -> str:
    if sessions < enough:
        return "not enough data"
    if against.is_better:
        return "edge"
    return "worse than the baseline" if against.is_worse else "no edge found"


def _beside(beside: _Paired | None) -> str:
    if beside is None:
        return ""
    if math.isnan(beside.difference):
        return ""
    interval = "" if math.isnan(beside.low) else f" [{beside.low:+z.4f}, {beside.high:+z.4f}]"
    side = "lower" if beside.difference > 0 else "no lower"
    how = "" if beside.difference <= 0 or beside.is_better else ", no more than chance explains"
    return f" Beside {_BASE_RATE} on the same rows it is {side}: {beside.difference:+z.4f}{interval}{how}."


def _sentence(v: Verdict, against: _Paired, horizon: int) -> str:
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
    if v.finding != "no edge found" or against.is_better:
        return f"{opening}, an interval without zero ({test})."
    holds = (
        "that interval holds zero"
        if v.low <= 0 <= v.high
        else "that interval leaves zero out, but the test does not reject"
    )
    return f"{opening}; {holds} ({test}). {hint}"
