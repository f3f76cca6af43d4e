"""Sample the settings of the next trial with Optuna, from the recorded trials alone.

The list of trials is the only state of a search. The Optuna study is rebuilt from it before each trial, and each
trial has its own seed: a search that was killed, or is extended later, continues exactly as one that never stopped.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from pipeline.tracking.trials import Parameters, Trial

__all__ = ["ask"]

_STARTUP_TRIALS: Final = 8
"""Trials sampled at random before the sampler uses results, and completed before one may be pruned."""

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
    """Return the next trial: its `params` are the settings to try; the caller reports each slice's loss to it.

    The sampler is the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"); a trial is pruned if its first slice is worse than the median of the first slices before.

    Args:
        space: The distribution of each setting.
        past: The trials of this search.
        configured: The settings of the first trial.
        seed: The seed of the search, and the trial's number.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=_combine(seed), n_startup_trials=_STARTUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
    study.add_trials([_frozen_trial(trial, space) for trial in past])
    if not study.trials:
        study.enqueue_trial(configured)
    return study.ask(dict(space))


def _frozen_trial(trial: Trial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=_STATES[trial.state],
        params=dict(trial.parameters),
        distributions=dict(space),
        value=trial.objective if trial.state == "complete" else None,
        intermediate_values=dict(enumerate(trial.folds)),
    )


def _combine(seed: tuple[int, int]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
