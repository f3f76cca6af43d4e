"""Timing or picking: does a forecast tell good sessions from bad ones, and does it tell stocks apart inside a session?

Timing is the log loss that the mean forecast of each session saves against the base rate: who picks well and times
badly has none. Picking is the AUC within sessions: moves of the whole market do not enter it, nor whether the
probabilities are calibrated. Both are tested by whole sessions against no skill, and compared with the baseline that
was best in them before the test began.

They are two looks at the same rows. An edge has to pass at one-sided 2.5% in each, so that forecasts without skill are
called an edge in either of the two in at most 5% (Bonferroni): 95% intervals are the same rule.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.evaluation.verdict import BASE_RATE, Skill, enough_sessions
from pipeline.formatting import count, describe_p_value, format_alike
from pipeline.outputs import Output, describe_in_sentence, list_outputs, select_output
from pipeline.statistics import auc, bootstrap, metrics, significance
from pipeline.statistics.ranking import MIN_MEMBERS

__all__ = ["LOOKS", "PICKING", "TIMING", "find_best", "judge_skills"]

Floats = NDArray[np.float64]

TIMING: Final = "timing"
PICKING: Final = "picking"
LOOKS: Final = (
    "Timing and picking are two looks at the same rows: each is tested one-sided at 2.5%, so that without any skill "
    "either of them is called an edge in at most 5% of cases."
)
"""The error rate of the two conclusions together, in words."""


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a model's skill is made of: `value` is the sum of `gain` over the sum of `weight`, plus `chance`.

    Attributes:
        gain: [session], with mean 0 without skill.
        weight: [session]; 0 for a session that does not count.
        chance: The value without skill.
    """

    gain: Floats
    weight: Floats
    chance: float

    @property
    def value(self) -> float:
        """The value on all sessions; NaN where none counts."""
        return float(metrics.mean_of(self.gain.sum(), self.weight.sum())) + self.chance

    def counted(self) -> "_Parts":
        """Return the sessions that count."""
        return _Parts(self.gain[self.weight > 0], self.weight[self.weight > 0], self.chance)

    def less(self, other: "_Parts") -> "_Parts":
        """Return the difference of two models on the same sessions."""
        return _Parts(significance.drop_rounding(self.gain - other.gain), self.weight, 0.0)

    def interval(self, copies: Floats) -> tuple[float, float]:
        """Return the 95% interval from resampled sessions [draw, session]."""
        low, high = bootstrap.percentile_interval(metrics.mean_of(copies @ self.gain, copies @ self.weight))
        return low + self.chance, high + self.chance


def find_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Return which baseline is best in timing and in picking, by output.

    The caller passes baselines only, and only rows from before the test range, as for `verdict.best_baseline`. A tie
    goes to the first by name; where nothing can be compared the base rate is named.

    Returns:
        target, horizon, skill, baseline.
    """
    found = []
    for output in list_outputs(rows):
        table = gather_labelled(select_output(rows, output))
        for skill, measure in _measures_of(output).items():
            values = {model: measure(table, model).value for model in sorted(table.p)}
            known = {model: value for model, value in values.items() if not math.isnan(value)}
            best = max(known, key=known.__getitem__) if known else BASE_RATE
            found.append({**output._asdict(), "skill": skill, "baseline": best})
    return pd.DataFrame(found, columns=["target", "horizon", "skill", "baseline"])


def judge_skills(
    rows: pd.DataFrame, *, model: str, best: pd.DataFrame, draws: int = 1000, seed: int = 0
) -> tuple[Skill, ...]:
    """Judge the timing and the picking of a model.

    "edge" if the 95% interval lies above no skill and the test of Diebold and Mariano on sessions has p below 5%,
    "worse" if it lies below, "none" otherwise, and "too little data" with fewer than `enough_sessions` that count.
    For picking a session counts with MIN_MEMBERS labelled rows or more, of which some went up and some down; each
    weighs as much as it has pairs of an up and a down (as in the score auc_within_sessions).

    Args:
        rows: As for `score`, with the model, `base_rate` and every baseline of `best`; column fold where `best` has
            several.
        model: The model to be judged.
        best: Of `find_best` for the rows' output, with a column fold where there are several.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: a model is not in `rows`, or they have different rows.
    """
    names = {model, BASE_RATE, *best["baseline"]}
    table = gather_labelled(rows, names)
    for name in sorted(names):
        table.require(name)
    fold = (
        _fold_of_sessions(rows[rows["model"] == model], table) if best["skill"].duplicated().any() else None
    )
    return tuple(
        _judge(table, model, skill, best[best["skill"] == skill], fold, draws, seed)
        for skill in _measures_of(table.output)
    )


def _forecasts(table: LabelledRows, model: str) -> Floats:
    """Return p of a model [n]; empty where no row has an outcome yet."""
    return table.p[model] if len(table.y) else np.empty(0)


def _time(table: LabelledRows, model: str) -> _Parts:
    """Return the log loss saved per session by the session means of p, against those of the base rate."""
    rows = np.bincount(table.session)
    share = table.by_session(table.y) / rows

    def lose(name: str) -> Floats:
        p = np.clip(table.by_session(_forecasts(table, name)) / rows, metrics.CLIP, 1 - metrics.CLIP)
        return np.asarray(-share * np.log(p) - (1 - share) * np.log1p(-p))

    saved = significance.drop_rounding(lose(BASE_RATE) - lose(model))
    return _Parts(saved, np.ones_like(saved), 0.0)


def _pick(table: LabelledRows, model: str) -> _Parts:
    """Return the wins beyond half of the pairs of each session, and its pairs."""
    wins, pairs = auc.wins_within_sessions(auc.rank_levels(_forecasts(table, model)), table.y, table.session)
    counts = np.bincount(table.session) >= MIN_MEMBERS
    return _Parts(significance.drop_rounding(wins - pairs / 2) * counts, pairs * counts, 0.5)


_MEASURES: Final[Mapping[str, Callable[[LabelledRows, str], _Parts]]] = {TIMING: _time, PICKING: _pick}


def _measures_of(output: Output) -> Mapping[str, Callable[[LabelledRows, str], _Parts]]:
    """Return what can be judged: above or below the median is half and half in every session, so there is no timing."""
    return {PICKING: _pick} if output.is_relative else _MEASURES


def _fold_of_sessions(rows: pd.DataFrame, table: LabelledRows) -> NDArray[np.integer]:
    folds = rows.drop_duplicates("target_session").set_index("target_session")["fold"]
    return folds.reindex(table.levels[-1][np.unique(table.target)]).to_numpy(int)


def _measure_best(
    skill: str, table: LabelledRows, best: pd.DataFrame, fold: NDArray[np.integer] | None
) -> _Parts:
    """Return the parts of the best baseline, in each session that of its fold."""
    parts = {name: _MEASURES[skill](table, name) for name in best["baseline"].unique()}
    if fold is None:
        return next(iter(parts.values()))
    names = best.set_index("fold")["baseline"].reindex(fold).to_numpy()
    gain = np.select([names == name for name in parts], [each.gain for each in parts.values()])
    return replace(next(iter(parts.values())), gain=gain)


def _judge(
    table: LabelledRows,
    model: str,
    skill: str,
    best: pd.DataFrame,
    fold: NDArray[np.integer] | None,
    draws: int,
    seed: int,
) -> Skill:
    own, other = (
        each.counted() for each in (_MEASURES[skill](table, model), _measure_best(skill, table, best, fold))
    )
    gap, horizon = own.less(other), table.horizon
    copies = bootstrap.resample_sessions(own.gain, horizon=horizon, draws=draws, seed=seed)
    test = significance.diebold_mariano(own.gain, horizon=horizon)
    low, high = own.interval(copies)
    enough = len(own.gain) >= enough_sessions(horizon)
    found = Skill(
        name=skill,
        conclusion=_conclude(low - own.chance, high - own.chance, test.p_value)
        if enough
        else "too little data",
        sentence="",
        value=own.value,
        low=low,
        high=high,
        t_statistic=test.statistic,
        p_value=test.p_value,
        sessions=len(own.gain),
        baseline=_name_baseline(best["baseline"]),
        baseline_value=other.value,
        difference=gap.value,
        **dict(zip(("difference_low", "difference_high"), gap.interval(copies), strict=True)),
    )
    differs = significance.diebold_mariano(gap.gain, horizon=horizon).p_value
    order = _conclude(found.difference_low, found.difference_high, differs)
    return replace(found, sentence=_describe(found, model, table.output, order))


def _name_baseline(names: "pd.Series[str]") -> str:
    """Return the name of the best baseline; where it changed, that of most folds and how many others there were."""
    folds = names.value_counts()
    if len(folds) == 1:
        return str(folds.index[0])
    return f"{folds.index[0]} in {folds.iloc[0]} of {len(names)} folds, {count(len(folds) - 1, 'other')} in the rest"


def _conclude(low: float, high: float, p_value: float) -> str:
    if not p_value < 0.05 or low <= 0 <= high:
        return "none"
    return "edge" if low > 0 else "worse"


_MEASURED: Final = {
    TIMING: "log loss saved per session by the session means of {model}'s forecasts, against the base rate: ",
    PICKING: "AUC within sessions of {model} (0.5 is chance): ",
}


def _describe(found: Skill, model: str, output: Output, order: str) -> str:
    opening = f"{found.name.capitalize()}{describe_in_sentence(output)}: {found.conclusion}"
    if not found.sessions:
        lack = (
            f"{MIN_MEMBERS} stocks with ups and downs among them" if found.name == PICKING else "an outcome"
        )
        return f"{opening}; no session has {lack}."
    sign = "+" if found.name == TIMING else ""
    value, low, high, other = format_alike(
        found.value, found.low, found.high, found.baseline_value, sign=sign
    )
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    evidence = (
        f"{_MEASURED[found.name].format(model=model)}{value}{interval}, {count(found.sessions, 'session')}"
    )
    if found.conclusion == "too little data":
        return f"{opening}; {evidence}, and {enough_sessions(output.horizon):,} are needed."
    test = f"t = {found.t_statistic:.1f}, {describe_p_value(found.p_value)}"
    return f"{opening}; {evidence} ({test}). {_compare(found, model, other, order)}"


def _compare(found: Skill, model: str, other: str, order: str) -> str:
    difference, low, high = format_alike(found.difference, found.difference_low, found.difference_high)
    result = {"edge": "better", "worse": "worse", "none": "neither clearly better nor worse"}[order]
    return (
        f"Best baseline in it before the test: {found.baseline}, {other} here; {model} is {result} "
        f"({difference} [{low}, {high}])."
    )
