"""Tests against data snooping: is the best of many candidates better than luck, and which are as good as it?

The best of forty settings is partly the luckiest. Both tests compare all candidates at once, by the mean log loss per
session, and resample blocks of sessions. `arch` is imported where it is used: it takes seconds.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.errors import NextdayError
from pipeline.evaluation.aligned import LabelledRows, gather_labelled
from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.bootstrap import choose_block_length
from pipeline.statistics.significance import drop_rounding

__all__ = [
    "ConfidenceSet",
    "SuperiorAbility",
    "choose_common_block_length",
    "find_confidence_set",
    "session_losses",
    "superior_ability",
    "tabulate_losses",
]


@dataclass(frozen=True)
class SuperiorAbility:
    """The result of Hansen's test of superior predictive ability.

    Attributes:
        best: The candidate with the lowest mean loss.
        gain: The benchmark's mean loss less that of the best.
        p_value: The consistent one, of "no candidate is better than the benchmark".
        lower: Hansen's lower bound of it, which ignores poor candidates.
        upper: Hansen's upper bound, that of White's (2000) reality check, which takes all candidates to be as good as
            the benchmark.
        candidates: Number of candidates.
        sessions: Number of sessions.
        block_length: In sessions.
    """

    best: str
    gain: float
    p_value: float
    lower: float
    upper: float
    candidates: int
    sessions: int
    block_length: int


@dataclass(frozen=True)
class ConfidenceSet:
    """The model confidence set.

    Attributes:
        members: Models that are not significantly worse than the best one, the lowest loss first.
        p_values: By model; those of members are above `level`.
        level: 1 minus the confidence of the set.
        sessions: Number of sessions.
        block_length: In sessions.
    """

    members: tuple[str, ...]
    p_values: dict[str, float]
    level: float
    sessions: int
    block_length: int


def session_losses(rows: pd.DataFrame, models: Collection[str] | None = None) -> pd.DataFrame:
    """Return the mean log loss [target session, model] of the long frame of `pipeline.evaluation.scores`.

    Args:
        rows: The long frame.
        models: The models to compare; None: all.
    """
    return tabulate_losses(gather_labelled(rows, models))


def tabulate_losses(table: LabelledRows) -> pd.DataFrame:
    """Return the mean log loss [target session, model] of aligned rows."""
    sessions = pd.DatetimeIndex(table.levels[-1][np.unique(table.target)], name="target_session")
    return pd.DataFrame({model: table.log_loss(model) for model in table.p}, index=sessions)


def choose_common_block_length(losses: pd.DataFrame) -> int:
    """Return the longest optimal block length of the differences of two columns, in whole sessions."""
    series = losses.to_numpy(float).T
    lengths = [choose_block_length(one - other) for one, other in combinations(series, 2)]
    return int(np.ceil(max(lengths, default=1.0)))


def superior_ability(
    losses: pd.DataFrame,
    benchmark: str,
    *,
    horizon: int = 1,
    block_length: int | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> SuperiorAbility:
    """Test whether any candidate has a lower expected loss than the benchmark.

    Hansen (2005), "A test for superior predictive ability": the largest studentized gain against its distribution
    where no candidate is better, by the stationary bootstrap.

    Args:
        losses: [session], a column per model: every candidate that was tried and the benchmark.
        benchmark: The column that the others are compared with.
        horizon: Sessions ahead; blocks are at least as long.
        block_length: By default that of `choose_common_block_length`.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: there is no such column, no candidate, or too few sessions.
    """
    others = _checked(losses, horizon, benchmark).drop(columns=benchmark)
    best = str(others.mean().idxmin())
    # A candidate equal to the benchmark has no variance to divide by; the test would take it for certain.
    differs = [
        name for name in others if np.any(drop_rounding((others[name] - losses[benchmark]).to_numpy(float)))
    ]
    gain = float(losses[benchmark].mean() - others[best].mean())
    if gain <= 0 or best not in differs:
        return SuperiorAbility(best, gain, 1.0, 1.0, 1.0, others.shape[1], len(losses), max(horizon, 1))
    others = others[differs]
    block = max(block_length or choose_common_block_length(losses), horizon)
    from arch.bootstrap import SPA

    spa = SPA(
        losses[benchmark].to_numpy(),
        others.to_numpy(),
        block_size=block,
        reps=draws,
        seed=np.random.default_rng(seed),
    )
    spa.compute()
    lower, consistent, upper = (float(spa.pvalues[name]) for name in ("lower", "consistent", "upper"))
    candidates = losses.shape[1] - 1
    return SuperiorAbility(best, gain, consistent, lower, upper, candidates, len(losses), block)


def find_confidence_set(
    losses: pd.DataFrame,
    *,
    level: float = 0.1,
    horizon: int = 1,
    block_length: int | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> ConfidenceSet:
    """Return the models among which the best one is with probability 1 - `level`.

    Hansen, Lunde and Nason (2011), "The model confidence set", with the range statistic: the worst model is removed
    as long as equal ability is rejected. With little data the set stays large.

    Args:
        losses: [session], a column per model.
        level: The probability that the best one is missing.
        horizon: Sessions ahead; blocks are at least as long.
        block_length: By default that of `choose_common_block_length`.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: too few models or sessions.
    """
    _checked(losses, horizon)
    block = max(block_length or choose_common_block_length(losses), horizon)
    unlike = losses.T.drop_duplicates().T
    p_values = {str(unlike.columns[0]): 1.0}
    if unlike.shape[1] > 1:
        from arch.bootstrap import MCS

        found = MCS(
            unlike, size=level, block_size=block, reps=draws, method="R", seed=np.random.default_rng(seed)
        )
        found.compute()
        p_values = {str(model): float(p) for model, p in found.pvalues["Pvalue"].items()}
    for model in losses:  # equal columns have no variance to divide by: they get the p-value of their twin
        twin = next(name for name in unlike if losses[name].equals(losses[model]))
        p_values[str(model)] = p_values[str(twin)]
    order = [str(model) for model in losses.mean().sort_values(kind="stable").index]
    members = tuple(model for model in order if p_values[model] > level)
    return ConfidenceSet(members, {model: p_values[model] for model in order}, level, len(losses), block)


def _checked(losses: pd.DataFrame, horizon: int, benchmark: str | None = None) -> pd.DataFrame:
    if benchmark is not None and benchmark not in losses:
        raise NextdayError(f"There is no forecast by {benchmark!r}; there are {', '.join(map(str, losses))}")
    if losses.shape[1] < 2:
        raise NextdayError("A test of several candidates needs two models or more")
    if len(losses) < MIN_SESSIONS * horizon:
        raise NextdayError(
            f"A test of several candidates needs {MIN_SESSIONS * horizon} sessions; there are {len(losses)}"
        )
    return losses
