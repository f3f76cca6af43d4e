"""The verdict on a model: edge, no edge found, worse than the baseline, or not enough data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from pipeline.errors import NextdayError
from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.evaluation.data_snooping import find_confidence_set, tabulate_losses
from pipeline.formatting import format_alike
from pipeline.outputs import DIRECTION, Output, describe_in_sentence
from pipeline.statistics import bootstrap, significance

__all__ = [
    "BASE_RATE",
    "ENOUGH_SESSIONS",
    "FORECASTING",
    "RANKING_RULES",
    "WINDOW",
    "Skill",
    "Verdict",
    "best_baseline",
    "compare_with_window",
    "enough_sessions",
    "find_best_methods",
    "judge",
    "list_candidates",
]


BASE_RATE: Final = "base_rate"

FORECASTING: Final = {
    "gradient_boosting": "boosting",
    "logistic_regression": "logistic",
    "logistic_window": "linear",
}
"""Baselines whose method can forecast, and its [model] kind."""

WINDOW: Final = "logistic_window"
"""The baseline that reads what a network reads, by a linear map."""
ENOUGH_SESSIONS: Final = 60
"""With fewer sessions (a quarter of trading) there is no verdict: bootstrap intervals are too narrow there.
In simulated sessions of 30 rows with a common shock the 95% interval covered the truth in 83% of runs with 10 sessions,
89% with 20, 90% with 40, 93% with 60, 96% with 120. It is a minimum, not a guarantee: 60 independent forecasts
distinguish a hit rate of 66% from 50%, and nothing smaller."""


RANKING_RULES: Final = ("reversal_5", "momentum_252_21", "range_reversal")
"""Baselines that rank stocks: they compete in picking. For the direction the verdict and the tests on the log loss
compare the others, as they always have: a result of today can be set beside one of an earlier version."""


@dataclass(frozen=True)
class Skill:
    """One part of a verdict: timing or picking (see `pipeline.evaluation.timing_and_picking`).

    Attributes:
        name: "timing" or "picking".
        conclusion: "edge", "none", "worse" or "too little data".
        sentence: The conclusion in plain words, with its evidence.
        value: Timing: log loss saved per session by the session means of p, against those of the base rate. Picking:
            AUC within sessions. NaN where no session counts, as are the next numbers.
        low: Lower end of its 95% interval.
        high: Upper end.
        t_statistic: Of no skill, by whole sessions.
        p_value: Of no skill: one-sided, doubled for the two looks.
        sessions: Sessions that count.
        baseline: The baseline that was best in it before the test; where it changed, in how many folds.
        baseline_value: Its value on the same sessions.
        difference: `value` less `baseline_value`.
        difference_low: Lower end of its 95% interval.
        difference_high: Upper end.
    """

    name: str
    conclusion: str
    sentence: str
    value: float
    low: float
    high: float
    t_statistic: float
    p_value: float
    sessions: int
    baseline: str
    baseline_value: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class Verdict:
    """The verdict on a model, with its evidence.

    Attributes:
        conclusion: "edge", "no edge found", "worse than the baseline" or "not enough data".
        sentence: The conclusion in plain words, with its evidence.
        model: The model.
        baseline: The baseline it was compared with.
        difference: The baseline's minus the model's log loss, mean over sessions of the sessions' means; positive is
            better. NaN without rows, as are the next three.
        low: Lower end of its 95% interval.
        high: Upper end.
        p_value: Diebold and Mariano's.
        n: Forecasts with an outcome.
        sessions: Sessions they come from.
        skills: Timing and picking; empty where they were not judged, as by earlier versions.
        among: The methods among which the best one is with 90% confidence, the best in the test first; empty where
            there are too few sessions, and in verdicts of earlier versions.
        compared: How many methods were compared for that.
        recurrence: Whether the network is worth it beside a linear map of the same window; empty where that was not
            asked.
    """

    conclusion: str
    sentence: str
    model: str
    baseline: str
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    sessions: int
    skills: tuple[Skill, ...] = ()
    among: tuple[str, ...] = ()
    compared: int = 0
    recurrence: str = ""

    @property
    def is_outside(self) -> bool:
        """Whether others than the model are the best with 90% confidence."""
        return bool(self.among) and self.model not in self.among

    @property
    def title(self) -> str:
        """The conclusion, and whether the model is not among the best methods."""
        return f"{self.conclusion}, and not among the best methods" if self.is_outside else self.conclusion

    @property
    def rivals(self) -> str:
        """Which methods are better, in a sentence; empty where the model is among the best."""
        if not self.is_outside:
            return ""
        best = f"is {self.among[0]}" if len(self.among) == 1 else f"is among {', '.join(self.among)}"
        kinds = [f'"{FORECASTING[name]}"' for name in self.among if name in FORECASTING]
        hint = f" [model] kind = {' or '.join(kinds)} forecasts with such a method." if kinds else ""
        return (
            f"With 90% confidence the best of the {self.compared} methods compared {best}; {self.model} is not "
            f"(model confidence set).{hint}"
        )

    @property
    def headline(self) -> str:
        """The sentence of the verdict, and which methods are better."""
        return f"{self.sentence} {self.rivals}".rstrip()

    @property
    def sentences(self) -> list[str]:
        """The headline of the verdict, then the sentences of timing and picking, and on recurrence."""
        return [self.headline, *self.further_sentences]

    @property
    def further_sentences(self) -> list[str]:
        """The sentences below the headline."""
        return [*(skill.sentence for skill in self.skills), *[self.recurrence] * bool(self.recurrence)]

    @property
    def tags(self) -> dict[str, str]:
        """What a tracked run says of the verdict: its conclusion, the best methods, timing and picking."""
        place = "outside" if self.is_outside else "inside"
        among = {"confidence_set": f"{place}: {', '.join(self.among)}"} if self.among else {}
        return {"verdict": self.conclusion} | among | {skill.name: skill.conclusion for skill in self.skills}

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as it is stored, the conclusion under the key `finding`."""
        facts = asdict(self)
        return {"finding": facts.pop("conclusion"), **facts}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the verdict of `to_json`.

        Raises:
            TypeError: a key is missing or unknown.
        """
        named = {"conclusion" if key == "finding" else key: fact for key, fact in facts.items()}
        skills = tuple(Skill(**skill) for skill in facts.get("skills", ()))
        return cls(**named | {"skills": skills, "among": tuple(facts.get("among", ()))})


def find_best_methods(rows: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> tuple[tuple[str, ...], int]:
    """Return the methods of the confidence set of 90%, and how many were compared; none with too few sessions.

    Args:
        rows: As for `judge`: the model and every baseline.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.
    """
    table = gather_labelled(rows, list_candidates(rows))
    if table.sessions < enough_sessions(table.horizon) or len(table.p) < 2:
        return (), len(table.p)
    losses = tabulate_losses(table)
    return find_confidence_set(losses, horizon=table.horizon, draws=draws, seed=seed).members, len(table.p)


def enough_sessions(horizon: int) -> int:
    """Return the number of sessions that a verdict needs: ENOUGH_SESSIONS spans of `horizon` that do not overlap.

    In simulated forecasts without skill that hardly change from session to session, at 5 sessions ahead, the 95%
    interval covered the truth in 77% of runs with 60 sessions, 85% with 120, 87% with 252, 91% with 504.
    """
    return ENOUGH_SESSIONS * horizon


def list_candidates(rows: pd.DataFrame) -> set[str]:
    """Return the methods that are compared by their log loss, of rows of one output."""
    is_direction = "target" not in rows or bool((rows["target"] == DIRECTION).any())
    return {str(name) for name in rows["model"].unique()} - ({*RANKING_RULES} if is_direction else set())


def best_baseline(rows: pd.DataFrame) -> str:
    """Return the model with the lowest log loss, the mean over sessions of the sessions' means; no ranking rule.

    The caller passes baselines only, and only rows from before the test range: a baseline chosen on the test would be
    the luckiest one. A tie goes to the first by name.

    Raises:
        NextdayError: no row has an outcome, or the models have different rows.
    """
    table = gather_labelled(rows, list_candidates(rows))
    if not len(table.y):
        raise NextdayError(
            "No baseline can be chosen: not one row before the test has an outcome",
            fix="leave more sessions before the test: a later start of the test, or a longer history",
        )
    losses = {model: float(table.log_loss(model).mean()) for model in sorted(table.p)}
    return min(losses, key=losses.__getitem__)


def judge(rows: pd.DataFrame, *, model: str, baseline: str, draws: int = 1000, seed: int = 0) -> Verdict:
    """Decide whether `model` beats `baseline`, by the paired log loss per session.

    "edge" if the 95% interval of the mean difference per session lies above zero and Diebold and Mariano's p is below
    5%, and both also hold against `base_rate` where the rows contain it: the prior-best baseline may do badly in the
    test, and then a model without information beats it. "worse than the baseline" if the interval lies below zero and p
    is below 5%; else "no edge found". With fewer than `enough_sessions` of the horizon "not enough data", whatever the
    numbers.

    Args:
        rows: As for `score`; rows of other models are ignored.
        model: The model to be judged.
        baseline: Chosen before the test (see `best_baseline`).
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: one of the two is not in `rows`, or they have different rows.
    """
    table = gather_labelled(rows, {model, baseline, BASE_RATE})
    table.require(model)
    table.require(baseline)
    against = _compare(table, model, baseline, draws, seed)
    with_base_rate = (
        _compare(table, model, BASE_RATE, draws, seed)
        if BASE_RATE in table.p and BASE_RATE not in (model, baseline)
        else None
    )
    conclusion = _conclude(table.sessions, enough_sessions(table.horizon), against)
    if conclusion == "edge" and with_base_rate and not with_base_rate.is_better:
        conclusion = "no edge found"
    verdict = Verdict(
        *(conclusion, "", model, baseline, against.difference, against.low, against.high, against.p_value),
        *(len(table.y), table.sessions),
    )
    sentence = _describe_verdict(verdict, against, table.output) + _describe_base_rate(with_base_rate)
    return replace(verdict, sentence=sentence)


def compare_with_window(rows: pd.DataFrame, *, model: str, draws: int = 1000, seed: int = 0) -> str:
    """Return a sentence on a network's log loss beside that of a linear map of its window; empty without that baseline.

    Args:
        rows: As for `judge`.
        model: The network.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.
    """
    table = gather_labelled(rows, {model, WINDOW})
    if WINDOW not in table.p or table.sessions < enough_sessions(table.horizon):
        return ""
    paired = _compare(table, model, WINDOW, draws, seed)
    found = "no difference beyond chance"
    if paired.is_better or paired.is_worse:
        found = f"{model} is {'better' if paired.is_better else 'worse'}"
    difference, low, high = format_alike(paired.difference, paired.low, paired.high)
    return (
        f"Beside a linear map of the same window ({WINDOW}): {found}; log loss saved per session {difference} "
        f"[{low}, {high}]."
    )


@dataclass(frozen=True)
class _Paired:
    """How much lower a model's log loss is than another's, per session; NaN where it is not defined."""

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


def _conclude(sessions: int, enough: int, against: _Paired) -> str:
    if sessions < enough:
        return "not enough data"
    if against.is_better:
        return "edge"
    return "worse than the baseline" if against.is_worse else "no edge found"


def _describe_base_rate(paired: _Paired | None) -> str:
    if paired is None or math.isnan(paired.difference):
        return ""
    difference, low, high = format_alike(paired.difference, paired.low, paired.high)
    interval = "" if math.isnan(paired.low) else f" [{low}, {high}]"
    result = "improvement" if paired.is_better else "no improvement"
    if paired.difference > 0 and not paired.is_better:
        result += " beyond chance"
    return f" Compared with the base rate on the same rows: {result} ({difference}{interval})."


def _describe_verdict(v: Verdict, against: _Paired, output: Output) -> str:
    needed = round(significance.forecasts_needed(0.52, power=0.8, level=0.05), -1)
    hint = (
        f"About {needed:,} independent forecasts are needed to distinguish a 52% hit rate from 50% "
        "(80% power, one-sided 5%)."
    )
    ahead = describe_in_sentence(output)
    if not v.sessions:
        return f"Not enough data: no forecast by {v.model}{ahead} has an outcome yet. {hint}"
    sign, order = (1, "lower") if v.difference >= 0 else (-1, "higher")
    ends = sorted((sign * v.low, sign * v.high))
    difference, low, high = format_alike(abs(v.difference), *ends, sign="")
    interval = f" [{low}, {high}]" if v.low <= v.high else ""
    evidence = (
        f"over {v.sessions:,} session{'s' * (v.sessions > 1)} ({v.n:,} forecasts{ahead}) {v.model}'s log loss is "
        f"{order} than {v.baseline}'s by {difference}{interval} per session"
    )
    opening = f"{v.conclusion.capitalize()}: {evidence}"
    if v.conclusion == "not enough data":
        return f"{opening}; a verdict needs {enough_sessions(output.horizon):,} sessions. {hint}"
    test = f"Diebold-Mariano p = {v.p_value:.3f}" if v.p_value >= 0.001 else "Diebold-Mariano p < 0.001"
    if v.conclusion != "no edge found" or against.is_better:
        return f"{opening}; the 95% interval excludes zero ({test})."
    reason = (
        "the 95% interval includes zero"
        if v.low <= 0 <= v.high
        else "the 95% interval excludes zero, but the test does not reject"
    )
    return f"{opening}; {reason} ({test}). {hint}"
