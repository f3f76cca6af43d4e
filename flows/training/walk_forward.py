"""The walk through history: the procedure is fitted anew, fold after fold, and forecasts what follows each fit."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.compute import Compute
from flows.training.epochs import epoch_table, folds_shown, plan_epochs
from flows.training.history import History
from flows.training.model_factory import choose_start, make_baselines, make_recipe
from flows.training.per_symbol import drop_skipped_symbols, symbols_named
from models.errors import ModelError
from pipeline.evaluation.horizons import select_horizon
from pipeline.evaluation.verdict import best_baseline
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.model import Begun, Fitted, Model, begin
from pipeline.forecasting.walk_forward import Walk, mask_labels, walk_forward
from pipeline.schema import FORECAST_KEY

__all__ = ["BEST_BEFORE", "fits_at_once", "walk_history"]

BEST_BEFORE: Final = "best_before"
"""The baseline of a walk: in each fold the one that was best on the sessions before its test."""

_SCORED: Final = [*FORECAST_KEY, "fold", "model", "p_up", "direction", "outcome", "realized_return", "chosen"]
"""What is kept of a method's rows; the network's are kept whole, beside them."""


@task("walk forward")
def walk_history(
    run: Run, known: History, folds: list[Fold], workshop: Compute
) -> tuple[Walk, pd.DataFrame, pd.DataFrame]:
    """Fit the network and every baseline on each fold, and forecast its test.

    Where an executor trains, the networks of coming folds are on their way meanwhile, so that its workers never wait
    for this process; their epochs are told, and what went wrong is raised, when it is their fold's turn.

    Args:
        run: The run.
        known: The history.
        folds: In order of time.
        workshop: Where the networks are trained.

    Returns:
        The walk, whose `before` holds the rows before the first test alone, and whose test rows are those of every
        method and of BEST_BEFORE, without band and base rate; the networks' own test rows, whole; and their epochs.
    """
    model = run.config.model.name
    before, tests = pd.DataFrame(), {column: list[pd.Series]() for column in _SCORED}
    own: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    fitted: Fitted | None = None
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    shown = folds_shown("walk forward", len(folds), *planned)
    ahead, coming, begun = _count_ahead(run, workshop, planned[0]), deque(folds), deque[Begun]()
    with shown as next_fold, symbols_named(known.sequences.symbols), ExitStack() as under_way:
        if ahead:  # boosting's threads that wait for a core which others train on cost many times its work
            under_way.enter_context(threadpool_limits(workshop.cores, user_api="openmp"))
        for number, fold in enumerate(folds, start=1):
            first, last = (known.sequences.sessions[row] for row in (fold.test.start, fold.test.stop - 1))
            log_line(f"fold {number} of {len(folds)}: forecasting from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
            while coming and len(begun) <= ahead:
                try:
                    begun.append(_begin(run, known, coming[0], next_fold(), workshop, fitted))
                except ModelError:
                    if begun:
                        break  # there may be room for it, or it is to be told, when it is its turn
                    raise
                under_way.callback(begun[-1].close)
                coming.popleft()
            walk = _walk(run, known, fold, {model: _Awaited(begun.popleft())})
            fitted = walk.fitted[model]
            walk = drop_skipped_symbols(walk, fitted, known.sequences.symbols)
            walk = replace(walk, test=walk.test.assign(fold=np.int16(number)))
            before = walk.before if number == 1 else before
            own.append(walk.test[walk.test["model"] == model])
            for column, values in _with_best(walk, model).items():
                tests[str(column)].append(values.copy())
            epochs.append(epoch_table(fitted, f"fold {number}"))
    # Column by column: a second copy of the whole would be the most memory that a backtest takes.
    test = pd.DataFrame({name: pd.concat(tests.pop(name), ignore_index=True) for name in _SCORED}, copy=False)
    walked = replace(walk, before=before, test=test)
    return walked, pd.concat(own, ignore_index=True), pd.concat(epochs, ignore_index=True)


def _with_best(walk: Walk, model: str) -> pd.DataFrame:
    """Return the test rows, and those of the baseline that was best before this test once more, horizon by horizon."""
    rules, rows = walk.before[walk.before["model"] != model], walk.test
    names = pd.CategoricalDtype([*rows["model"].cat.categories, BEST_BEFORE, ""])
    parts = [rows.astype({"model": names}).assign(chosen=pd.Categorical([""] * len(rows), dtype=names))]
    for horizon in sorted(rows["horizon"].unique()):
        name = best_baseline(select_horizon(rules, horizon))
        best = select_horizon(rows, horizon)[lambda each, name=name: each["model"] == name]
        told = {"model": [BEST_BEFORE] * len(best), "chosen": [name] * len(best)}
        parts.append(
            best.assign(**{column: pd.Categorical(each, dtype=names) for column, each in told.items()})
        )
    return pd.concat([part[_SCORED] for part in parts], ignore_index=True)


def fits_at_once(run: Run, folds: list[Fold]) -> int:
    """Return how many fits of a walk may be under way at a time: one that goes on from another has to wait for it."""
    return 1 if run.config.training.warm_start else len(folds)


def _count_ahead(run: Run, workshop: Compute, members: int) -> int:
    """Return how many folds begin before their turn: enough for every worker; the examples of each lie in files."""
    if workshop.executor is None or run.config.training.warm_start:
        return 0
    return 1 + workshop.workers // members


def _begin(
    run: Run,
    known: History,
    fold: Fold,
    progress: Callable[[Any], None],
    workshop: Compute,
    former: Fitted | None,
) -> Begun:
    start = choose_start(run, former, fold) if former is not None else None
    network = make_recipe(run, run.feature_set(), progress, workshop, start)
    taught = mask_labels(known.sequences, fold, known.returns, run.config.labels.dead_zone)
    return begin(network, taught, fold, run.config.training.seed)


@dataclass(frozen=True)
class _Awaited:
    """The network of one fold, whose fit has begun on what `fit` is given: it has to be waited for alone."""

    begun: Begun

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
    ) -> Fitted:
        return self.begun.finish()


def _walk(run: Run, known: History, fold: Fold, network: Mapping[str, Model]) -> Walk:
    return walk_forward(
        {**network, **make_baselines(run, run.feature_set())},
        known.sequences,
        [fold],
        run.calendar,
        returns=known.returns,
        dead_zone=run.config.labels.dead_zone,
        seed=run.config.training.seed,
        tell=lambda name: None,
    )
