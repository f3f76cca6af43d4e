"""Which settings come next: Optuna's answer to the trials that are written down, and to nothing else.

The list of trials is a search's only memory. The study is made anew from it before each trial, and each trial has a
seed of its own: a search that was killed, or is asked for more later, goes on exactly as one that never ended.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from pipeline.tracking.trials import Parameters, Trial

__all__ = ["ask"]

_BY_CHANCE: Final = 8
"""Trials that are drawn by chance before the sampler draws conclusions, and that end before one is pruned."""

_STATES: Final = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def ask(
    space: Mapping[str, BaseDistribution],
    past: Iterable[Trial],
    configured: Parameters,
    seed: tuple[int, int],
) -> optuna.Trial:
    """Return the next trial; its `params` are what to try, and it is told after each slice.

    The sampler is the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"); a trial is pruned if its first slice is worse than the median of the first slices before.

    Args:
        space: What to choose among.
        past: The trials of this search.
        configured: What the first trial has to be.
        seed: Of the search, and the trial's number.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=_mixed(seed), n_startup_trials=_BY_CHANCE),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_BY_CHANCE),
    )
    study.add_trials([_frozen(trial, space) for trial in past])
    if not study.trials:
        study.enqueue_trial(configured)
    return study.ask(dict(space))


def _frozen(trial: Trial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=_STATES[trial.state],
        params=dict(trial.parameters),
        distributions=dict(space),
        value=trial.objective if trial.state == "complete" else None,
        intermediate_values=dict(enumerate(trial.folds)),
    )


def _mixed(seed: tuple[int, int]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
